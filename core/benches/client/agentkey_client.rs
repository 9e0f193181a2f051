//! The client of this crate as a contender.

use std::sync::Arc;

use agentkey::{AgentKey, ChargeRefusal};
use tokio::task::JoinSet;

use crate::Result;
use crate::database::Database;
use crate::load::Contender;

/// A client with its default options: a pool of 10.
#[derive(Clone)]
pub struct Ours(pub AgentKey);

impl Contender for Ours {
    async fn validate(&self, raw_key: &str) -> Result<bool> {
        Ok(self.0.validate(raw_key).await?.is_ok())
    }

    async fn charge(&self, raw_key: &str) -> Result<bool> {
        match self.0.track_usage(raw_key, 1).await? {
            Ok(_) => Ok(true),
            Err(ChargeRefusal::BudgetExceeded) => Ok(false),
            other => Err(format!("a charge that is neither recorded nor refused: {other:?}").into()),
        }
    }
}

/// How many row writes that many validates of keys cause which were not used before.
pub async fn row_writes(database: &Database, keys: &[String], validates: usize) -> Result<u64> {
    // A sequence counts exactly and at once, where statistics come late.
    let trigger = "
        UPDATE sdk_api_keys SET last_used_at = NULL;
        CREATE SEQUENCE row_writes;
        CREATE FUNCTION count_write() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM nextval(''row_writes''); RETURN NULL; END';
        CREATE TRIGGER count_writes AFTER INSERT OR UPDATE OR DELETE ON sdk_api_keys
            FOR EACH ROW EXECUTE FUNCTION count_write();";
    database.run(trigger).await?;
    let client = Ours(AgentKey::connect(&database.url).await?);
    let keys: Arc<[String]> = keys.into();
    let mut callers = JoinSet::new();
    for caller in 0..keys.len() {
        let (client, keys) = (client.clone(), Arc::clone(&keys));
        callers.spawn(async move {
            for call in 0..validates / keys.len() {
                if !client.validate(&keys[(caller + call) % keys.len()]).await? {
                    return Err("a wrong answer".into());
                }
            }
            Result::Ok(())
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    client.0.close().await;
    let writes = database
        .text("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM row_writes")
        .await?
        .parse()?;
    database
        .run("DROP TRIGGER count_writes ON sdk_api_keys; DROP FUNCTION count_write; DROP SEQUENCE row_writes")
        .await?;
    Ok(writes)
}
