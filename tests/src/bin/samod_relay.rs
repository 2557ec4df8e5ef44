//! A relay made of samod, for `cargo xtask bench --peers` to measure beside ours.
//!
//! `samod_relay FOLDER` listens on a free port of the loopback address, says which on its first
//! line, and keeps documents in the folder as samod's own file-system storage does.

use std::env;
use std::future::ready;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::get;
use axum::serve::ListenerExt;
use futures_util::stream::once;
use samod::storage::TokioFilesystemStorage;
use samod::{Repo, ShareConfig};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = env::args_os().nth(1).context("usage: samod_relay FOLDER")?;
    // As the JavaScript server does: whoever asks gets a document, and nobody is offered one.
    let on_request = ShareConfig::read_write().with_announce(false);
    let repo = Repo::build_tokio()
        .with_peer_id("samod-relay".into())
        .with_storage(TokioFilesystemStorage::new(folder))
        .with_share_policy(move |_document, _peer| once(ready(on_request)))
        .load()
        .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
    let url = format!("ws://{}/", listener.local_addr()?);
    let acceptor = repo.make_acceptor(url.parse()?).context("the repository has stopped")?;
    let accept = move |upgrade: WebSocketUpgrade| {
        let acceptor = acceptor.clone();
        ready(upgrade.on_upgrade(move |socket| async move {
            if let Err(error) = acceptor.accept_axum(socket, None) {
                eprintln!("a connection is not taken: {error}");
            }
        }))
    };
    println!("listening on {url}");
    // Nagle's algorithm holds back small messages, which would be measured instead of samod.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, Router::new().route("/", get(accept))).await?;
    Ok(())
}
