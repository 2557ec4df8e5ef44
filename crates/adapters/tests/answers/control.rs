//! What a command hears of adapters that run.

use rejoin_adapters::control::{self, ControlError};
use rejoin_adapters::run::Ask;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// What a command hears of adapters that write this back.
async fn told(reply: &str) -> ControlError {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(control::socket(folder.path())).unwrap();
    let answer = async {
        let mut stream = listener.accept().await.unwrap().0;
        while stream.read_u8().await.unwrap() != b'\n' {}
        stream.write_all(reply.as_bytes()).await.unwrap();
    };
    tokio::join!(control::ask(folder.path(), &Ask::Known), answer).0.unwrap_err()
}

#[tokio::test]
async fn an_answer_that_is_none_says_why() {
    let before = "{\"ok\":{\"known\":{\"collections\":{}},\"schemas\":\"\"}}\n";
    assert!(matches!(told(before).await, ControlError::AnotherVersion));
    assert!(matches!(told("{\"ok\":{\"kno").await, ControlError::Silent(_)));
    assert!(
        matches!(told("{\"error\":\"no\"}\n").await, ControlError::Refused(why) if why == "no")
    );
}
