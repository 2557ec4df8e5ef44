//! Rows as somebody sees them who listens to the database.

use std::future::poll_fn;

use rejoin_tests::services::postgres::PASSWORD;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

use super::Target;

/// Tells of the rows of a table that were committed: a trigger notifies, and one connection listens.
pub(super) struct Seen {
    notes: mpsc::Receiver<String>,
    _client: Client,
}

impl Seen {
    /// Makes the table and listens to it.
    pub(super) async fn listen(target: &Target, table: &str) -> Self {
        target.create(table).await;
        let sql = format!(
            "CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_notify(TG_TABLE_NAME, NEW.notes); RETURN NULL; END';
             CREATE TRIGGER tell AFTER INSERT OR UPDATE ON {table} \
             FOR EACH ROW EXECUTE FUNCTION tell()"
        );
        target.client.batch_execute(&sql).await.expect("a trigger");
        let mut config: Config = target.server.url().parse().expect("an address");
        let connected = config.password(PASSWORD).connect(NoTls).await;
        let (client, mut connection) = connected.expect("the database runs");
        let (sender, notes) = mpsc::channel(1024);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(told) = message {
                    let _ = sender.send(told.payload().to_owned()).await;
                }
            }
        });
        client.batch_execute(&format!("LISTEN {table}")).await.expect("it listens");
        Self { notes, _client: client }
    }

    /// Returns when a row with these notes was committed.
    pub(super) async fn row(&mut self, notes: &str) {
        while self.notes.recv().await.expect("the database runs") != notes {}
    }
}
