//! What Postgres does of the same statements at most, one a call, by its own tool.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use agentkey::engine::KeyHash;
use tokio::process::Command;

use crate::database::Database;
use crate::load::{Operation, Timing};
use crate::{PATIENCE, Result, per_request};

/// The numbers of clients that are tried: the best counts.
pub const CLIENTS: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// pgbench draws numbers, not hashes: the keys that it uses have numbers of as many digits as it can do for a hash.
const FIRST_HASH: i64 = 1_000_000_000_000_000_000;

pub struct Pgbench {
    binary: PathBuf,
    url: String,
    scripts: PathBuf,
}

impl Pgbench {
    /// pgbench, if there is one, and copies of the keys for it.
    pub async fn find(database: &Database, keys: &[String]) -> Result<Option<Self>> {
        let Some(binary) = binary() else { return Ok(None) };
        let hashes: Vec<_> = keys.iter().map(|key| format!("'{}'", KeyHash::of(key).as_str())).collect();
        let copy = format!(
            "INSERT INTO sdk_api_keys (key_hash, key_prefix, name, account_id, scopes, budget_cents, budget_period,
                budget_reset_at, expires_at, delegated_by)
            SELECT {FIRST_HASH} + row_number() OVER () - 1, key_prefix, name, account_id, scopes, budget_cents,
                budget_period, budget_reset_at, expires_at, delegated_by
            FROM sdk_api_keys WHERE key_hash IN ({})",
            hashes.join(",")
        );
        database.run(&copy).await?;
        let scripts = std::env::temp_dir().join(format!("agentkey-bench-{}", std::process::id()));
        std::fs::create_dir(&scripts)?;
        Ok(Some(Pgbench { binary, url: database.url.clone(), scripts }))
    }

    /// Statements a second.
    pub async fn run(
        &self,
        operation: Operation,
        keys: usize,
        clients: usize,
        timing: Timing,
    ) -> Result<f64> {
        let script = self.scripts.join("script.sql");
        std::fs::write(&script, text(operation, keys))?;
        // Its shortest time is a second.
        let seconds = timing.measured.as_secs().max(1).to_string();
        let clients = clients.to_string();
        let mut command = Command::new(&self.binary);
        command.args(["-n", "-M", "prepared", "-j", "1", "-c", &clients, "-T", &seconds, "-f"]);
        command.arg(&script).arg(&self.url).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(timing.measured + PATIENCE, command.output()).await??;
        let said = String::from_utf8_lossy(&output.stdout);
        let failures = said.lines().find_map(|line| line.strip_prefix("number of failed transactions: "));
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        match rate {
            Some(rate) if output.status.success() && failures.is_none_or(|text| text.starts_with("0 ")) => {
                Ok(rate)
            }
            _ => Err(format!("pgbench failed: {said}{}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    pub fn binary(&self) -> &Path {
        &self.binary
    }
}

impl Drop for Pgbench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.scripts);
    }
}

fn text(operation: Operation, keys: usize) -> String {
    let statement = match operation {
        Operation::Validate => per_request::SELECT,
        Operation::Charge | Operation::RefusedCharge => per_request::CHARGE,
    };
    // One line, as pgbench reads lines; a script cannot hold the same parameter under a number.
    let statement = statement
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace("$1", ":hash")
        .replace("$2", ":cost");
    let last = FIRST_HASH + keys as i64 - 1;
    format!("\\set hash random({FIRST_HASH}, {last})\n\\set cost 1\n{statement};\n")
}

/// From `AGENTKEY_PG_BIN`, else from the path, else beside the Postgres that `pg_config` knows.
fn binary() -> Option<PathBuf> {
    let configured = std::env::var_os("AGENTKEY_PG_BIN").map(PathBuf::from).into_iter();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path);
    let bindir = || {
        let output = std::process::Command::new("pg_config").arg("--bindir").output().ok()?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
    };
    let candidates = configured.chain(on_path).chain(std::iter::once_with(bindir).flatten());
    candidates.map(|directory| directory.join("pgbench")).find(|file| file.is_file())
}
