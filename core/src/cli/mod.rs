//! The command line, as plain data: arguments in, steps out. No I/O, no clock, no threads.
//!
//! A driver makes a [`Session`] of what the process was given, and does one [`Step`] after the other, each time telling
//! with a [`Reply`] how it went. [`run`] is that driver over [`AgentKey`](crate::AgentKey) and the process's own streams.

mod advice;
mod args;
mod commands;
mod host;
#[cfg(feature = "sqlx")]
mod run;
mod session;
mod table;
mod text;

#[cfg(feature = "sqlx")]
pub use self::run::run;
pub use self::session::{Connection, Input, Reply, Session, Step, Stream, Terminal};

#[cfg(test)]
mod tests;
