//! What keeps a relay from starting, and what it says then.

use rejoin_relay::{Config, ServeError, serve};
use tokio::net::TcpListener;

use crate::serving::Serving;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_names_the_process() {
    let data = tempfile::tempdir().unwrap();
    let first = Serving::over(data.path()).await;
    first.get("/healthz", &[]).await;
    let second = Serving::over(data.path()).await.ended().await.unwrap_err();
    assert!(
        matches!(&second, ServeError::Locked { pid: Some(pid), .. } if *pid == std::process::id())
    );
    assert!(second.to_string().contains("stop that one"), "{second}");
    first.stop().await.unwrap().unwrap();
    assert!(!data.path().join("relay.pid").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_database_is_left_alone() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("relay.redb");
    std::fs::write(&path, vec![7; 100_000]).unwrap();
    let error = Serving::over(data.path()).await.ended().await.unwrap_err();
    assert!(matches!(error, ServeError::Corrupt { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![7; 100_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_made_is_named() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let error = Serving::over(&file.join("data")).await.ended().await.unwrap_err();
    assert!(matches!(error, ServeError::Folder { .. }), "{error:?}");
    assert!(error.to_string().contains("file/data"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_others_can_reach_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let never = std::future::pending();
    let error = serve(Config::new(data.path()), listener, never).await.unwrap_err();
    assert!(matches!(error, ServeError::Exposed { .. }), "{error:?}");
}
