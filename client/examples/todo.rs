//! A to-do list: a list that follows, undo, and a question that only a person can decide.
//!
//! `cargo run --package rejoin --example todo`

use std::error::Error;

use rejoin::{Decision, Identity, Item, LiveQuery, Op, Replica};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Todo {
    title: String,
    done: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    futures_executor::block_on(day())
}

async fn day() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let replica = Replica::open(folder.path().join("todo.redb")).await?;
    replica.act_as(Some(Identity::user("Ana"))).await?;
    let space = replica.space("home")?;
    let todos = space.collection("todos")?;

    // The list of what is open, which follows every change.
    let mut live = todos.query::<Todo>().filter("done", false).sort("title").watch().await?;
    let mut list = live.first();

    for (key, title) in [("1", "Order a valve"), ("2", "Call the customer")] {
        todos.create(key, &Todo { title: title.to_owned(), done: false }).await?;
        follow("added", &mut live, &mut list).await?;
    }
    let valve = todos.document("1")?;
    let edited = valve.edit(|todo: &mut Todo| std::mem::replace(&mut todo.done, true)).await?;
    follow(&format!("done (it was {})", edited.returned), &mut live, &mut list).await?;

    let undone = replica.undo().await?;
    let fields = &undone.documents[0].fields;
    follow(&format!("undone: {}", fields[0].field), &mut live, &mut list).await?;

    // Ben, who had not heard of Ana's new title, gave the item another one.
    let before = valve.read().await?.map(|entry| entry.heads);
    valve.set("title", "Order two valves").await?;
    follow("Ana's title", &mut live, &mut list).await?;
    let ben = replica.acting_as(Identity::user("Ben")).space("home")?.collection("todos")?;
    let title = Op::Set { path: "title".into(), before: None, after: "Order a pump".into() };
    ben.document("1")?.apply_at(before, vec![title]).await?;
    follow("Ben's title: nobody wins", &mut live, &mut list).await?;

    let reviews = space.reviews();
    for review in reviews.open().await? {
        for candidate in &review.candidates {
            let author = candidate.author.as_ref().map_or("somebody", |author| &author.user);
            println!("  {author} says {}", candidate.value.clone().unwrap_or_default());
        }
        let of_ben = |it: &&rejoin::history::Candidate| {
            it.author.as_ref().is_some_and(|author| author.user == "Ben")
        };
        let choice = review.candidates.iter().find(of_ben).ok_or("Ben said nothing")?;
        reviews.settle(&review.id, Decision::Take(choice.change), Some("we have valves")).await?;
        follow("settled for Ben", &mut live, &mut list).await?;
    }
    Ok(())
}

/// Waits until the list is another one, and prints it.
async fn follow(
    why: &str,
    live: &mut LiveQuery<Todo>,
    list: &mut Vec<Item<Todo>>,
) -> Result<(), Box<dyn Error>> {
    for difference in live.next().await?.ok_or("the replica was closed")? {
        difference.carry_out(list);
    }
    println!("{why}: {:?}", list.iter().map(|item| &item.value.title).collect::<Vec<_>>());
    Ok(())
}
