//! The questions that only a person can decide, one after the other.
//!
//! `cargo run --package rejoin --example reviews -- FILE NAME`
//!
//! Prints each open question with its candidates and reads a number: the candidate that is to stand.
//! An empty line leaves the question open.

use std::error::Error;
use std::io::{BufRead, stdin};

use rejoin::blocking::Replica;
use rejoin::{Decision, Identity};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(name)) = (arguments.next(), arguments.next()) else {
        return Err("name the file of a replica, and yourself".into());
    };
    let replica = Replica::open(file)?;
    let reviews = replica.acting_as(Identity::user(name)).reviews();
    let mut answers = stdin().lock().lines();
    for review in reviews.open()? {
        let documents = review.documents.iter().filter_map(|named| named.key.clone());
        let documents: Vec<String> = documents.collect();
        println!("{}: {}", documents.join(" and "), review.field);
        for (number, candidate) in review.candidates.iter().enumerate() {
            let author = candidate.author.as_ref().map_or("somebody", |author| &author.user);
            let value = candidate.value.clone().unwrap_or_default();
            println!("  {}) {value}, by {author}", number + 1);
        }
        let Some(answer) = answers.next().transpose()? else { break };
        let chosen = answer.trim().parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let Some(candidate) = chosen.and_then(|at| review.candidates.get(at)) else { continue };
        // Somebody may have decided meanwhile: that is an error here, and no overwriting.
        match reviews.settle(&review.id, Decision::Take(candidate.change), None) {
            Ok(_) => println!("settled"),
            Err(error) => println!("{error}"),
        }
    }
    println!("{} open", reviews.open()?.len());
    replica.close();
    Ok(())
}
