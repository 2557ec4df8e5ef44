//! `/healthz`.

use crate::serving::Serving;

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_commits_is_healthy() {
    let relay = Serving::start().await;
    let health = relay.get("/healthz", &[]).await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert!(health.contains("application/json"), "{health}");
    assert!(health.contains("\"status\":\"ok\""), "{health}");
    relay.stop().await.unwrap().unwrap();
}
