//! A replica that is written to, for tests that kill it.
//!
//! `writer FILE RELAY NAME FIRST` makes one edit for each line on its standard input and ends with
//! it. Edit `n` puts field `NAME-n` into document `n / 50` of the collection `load`, so that several
//! writers meet in the same documents and no edit hides another. It prints `local n` when the edit
//! is on disk here, and `relay n` when a relay acknowledged everything up to `n`.

use std::error::Error;
use std::io::{BufRead, stdin};
use std::thread;

use rejoin::{Collection, Replica};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [file, relay, name, first] = arguments.as_slice() else {
        return Err("usage: writer FILE RELAY NAME FIRST".into());
    };
    let first = first.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let replica = Replica::open(file).await?;
        let space = replica.space("main")?;
        let load = space.collection("load")?;
        replica.connect(relay, &[&space]).await?;
        let (made, latest) = watch::channel(0);
        tokio::select! {
            done = edit(&load, name, first, &made) => done,
            done = acknowledge(&replica, latest) => done,
        }
    })
}

async fn edit(load: &Collection, name: &str, first: u64, made: &watch::Sender<u64>) -> Done {
    let mut asked = lines();
    for number in first.. {
        if asked.recv().await.is_none() {
            return Ok(());
        }
        let field = Map::from_iter([(format!("{name}-{number}"), Value::from(number))]);
        load.put(&(number / 50).to_string(), field).await?;
        println!("local {number}");
        made.send_replace(number);
    }
    Ok(())
}

async fn acknowledge(replica: &Replica, mut latest: watch::Receiver<u64>) -> Done {
    loop {
        latest.changed().await?;
        let number = *latest.borrow_and_update();
        replica.saved().await?;
        println!("relay {number}");
    }
}

/// One item for each line of standard input.
fn lines() -> mpsc::Receiver<()> {
    let (line, lines) = mpsc::channel(1024);
    thread::spawn(move || {
        for _ in stdin().lock().lines().map_while(Result::ok) {
            if line.blocking_send(()).is_err() {
                return;
            }
        }
    });
    lines
}
