//! The commands. Each is straight-line code that ends in an exit code.

mod change;
mod doctor;
mod explain;
mod increases;
mod keys;
mod ledger;
mod schema;

use clap::CommandFactory;

use super::args::{Arguments, Command, Global};
use super::host::{Exit, Host, Outcome, Stop, explain as tell};
use super::session::Connection;
use crate::engine::Answer;
use crate::error::Error;

/// Runs a command; its exit code.
pub(super) async fn run(host: Host, command: Command, global: Global, connection: Option<Connection>) -> u8 {
    let outcome = match &command {
        Command::Completions { .. } => dispatch(&host, command, &global).await,
        Command::Migrate(migrate) if migrate.sql => dispatch(&host, command, &global).await,
        _ if connection.is_none() => {
            Err(Stop::Usage("no database is named: give --database-url, or set DATABASE_URL".to_owned()))
        }
        _ => dispatch(&host, command, &global).await,
    };
    let exit = match outcome {
        Ok(exit) => exit,
        Err(stop) => tell(&host, stop).await,
    };
    exit as u8
}

async fn dispatch(host: &Host, command: Command, global: &Global) -> Outcome {
    match command {
        Command::Migrate(migrate) => schema::migrate(host, &migrate, global).await,
        Command::Create(create) => change::create(host, *create).await,
        Command::List(list) => keys::list(host, list).await,
        Command::Show(key) => keys::show(host, &key.id).await,
        Command::Explain(of) => explain::explain(host, &of).await,
        Command::Update(update) => change::update(host, update).await,
        Command::Disable(key) => change::switch(host, &key.id, true).await,
        Command::Enable(key) => change::switch(host, &key.id, false).await,
        Command::Rotate(rotate) => change::rotate(host, rotate).await,
        Command::Revoke(key) => change::revoke(host, &key.id).await,
        Command::RevokeAll(all) => change::revoke_all(host, all).await,
        Command::Requests(of) => increases::requests(host, of).await,
        Command::Approve(approve) => increases::approve(host, approve).await,
        Command::Deny(deny) => increases::deny(host, deny).await,
        Command::Usage(usage) => ledger::usage(host, usage).await,
        Command::Events(events) => ledger::events(host, events).await,
        Command::Deliveries(deliveries) => ledger::deliveries(host, deliveries).await,
        Command::Verify(verify) => ledger::verify(host, verify).await,
        Command::Sweep => ledger::sweep(host).await,
        Command::Prune(prune) => ledger::prune(host, &prune).await,
        Command::Doctor => doctor::doctor(host).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "agentkey", &mut script);
            host.out(String::from_utf8_lossy(&script)).await?;
            Ok(Exit::Done)
        }
    }
}

/// An answer to another request.
fn mismatch(answer: &Answer) -> Stop {
    Stop::Error(Error::unexpected(format_args!(
        "an answer to another request: {:?}",
        std::mem::discriminant(answer)
    )))
}

fn no_such_key(id: &str) -> Stop {
    Stop::NotFound(format!(
        "there is no key {}; give its id, as `agentkey list` shows it",
        crate::error::shortened(id)
    ))
}
