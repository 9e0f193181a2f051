//! The command line of a process: its own arguments and streams, and a client over sqlx.

use std::io::{IsTerminal, Write};
use std::time::SystemTime;

use chrono::DateTime;

use super::session::{Connection, Input, Reply, Session, Step, Stream, Terminal};
use super::text::shown;
use crate::client::AgentKey;
use crate::engine::{Answer, Request};
use crate::error::Error;

/// Runs the command line with these arguments (without the program's name), and answers the process's exit code. The rest
/// is the process's: environment, streams, clock.
pub fn run(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> u8 {
    let output_is_closed = output_is_closed();
    let mut given = Vec::new();
    for argument in arguments {
        match argument.into_string() {
            Ok(argument) => given.push(argument),
            Err(_) => return failed("an argument is not UTF-8", 2),
        }
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no runtime: {error}"), 1),
    };
    let input = Input {
        arguments: given,
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        terminal: Terminal {
            input: std::io::stdin().is_terminal(),
            output: std::io::stdout().is_terminal(),
            error: std::io::stderr().is_terminal(),
        },
        output_is_closed,
    };
    let code = runtime.block_on(drive(Session::new(input)));
    // What is still under way ends with the process.
    runtime.shutdown_background();
    code
}

/// Whether nothing was at standard output when the process began. Runtimes put the null device there, to read and to write.
/// A redirection to the null device only writes: it is meant.
#[cfg(unix)]
fn output_is_closed() -> bool {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let Ok(output) = std::io::stdout().as_fd().try_clone_to_owned() else { return true };
    let mut output = std::fs::File::from(output);
    let is_null = match (output.metadata(), std::fs::metadata("/dev/null")) {
        (Ok(output), Ok(null)) => output.file_type().is_char_device() && output.rdev() == null.rdev(),
        _ => false,
    };
    is_null && output.read(&mut [0]).is_ok()
}

#[cfg(not(unix))]
fn output_is_closed() -> bool {
    false
}

fn failed(why: &str, code: u8) -> u8 {
    // Where even this cannot be said, the code says it.
    drop(writeln!(std::io::stderr(), "error: {why}"));
    code
}

async fn drive(mut session: Session) -> u8 {
    let connection = session.connection().cloned();
    let mut client: Option<AgentKey> = None;
    let mut reply = Reply::Done;
    loop {
        reply = match session.next(reply) {
            Step::Exit(code) => {
                if let Some(client) = client {
                    client.close().await;
                }
                return code;
            }
            Step::Write(stream, text) => match write(stream, &text) {
                Ok(()) => Reply::Done,
                Err(_) => Reply::Unwritable,
            },
            Step::Call(request) => {
                let answer = call(&mut client, connection.as_ref(), *request).await;
                Reply::Answer(Box::new(answer), DateTime::from(SystemTime::now()))
            }
            Step::Ask => {
                let mut line = String::new();
                match std::io::stdin().read_line(&mut line) {
                    Ok(0) | Err(_) => Reply::Line(None),
                    Ok(_) => Reply::Line(Some(line)),
                }
            }
            Step::Pause(time) => {
                tokio::time::sleep(time).await;
                Reply::Done
            }
        };
    }
}

fn write(stream: Stream, text: &str) -> std::io::Result<()> {
    match stream {
        Stream::Output => {
            let mut output = std::io::stdout().lock();
            output.write_all(text.as_bytes())?;
            output.flush()
        }
        Stream::Error => std::io::stderr().write_all(text.as_bytes()),
    }
}

/// The client is made with the first call.
async fn call(
    client: &mut Option<AgentKey>,
    connection: Option<&Connection>,
    request: Request,
) -> Result<Answer, Error> {
    if client.is_none() {
        let connection = connection.ok_or_else(|| Error::unexpected("no database is named"))?;
        let builder = AgentKey::builder()
            .table_name(&connection.table)
            .key_prefix(&connection.key_prefix)
            .timeout(connection.timeout)
            .pool_size(2)
            // Values of the table are in it.
            .on_error(|message| drop(writeln!(std::io::stderr(), "{}", shown(message))))
            .touch_interval_seconds(None);
        *client = Some(builder.database_url(&connection.database_url)?.connect_lazy()?);
    }
    match client {
        Some(client) => client.call(request).await,
        None => Err(Error::unexpected("there is no client")),
    }
}
