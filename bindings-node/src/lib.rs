//! The engine for Node: no I/O, no threads, no runtime. TypeScript runs its statements on the caller's pool.
//!
//! Private to the npm package: everything here is called by `ts/` alone.

mod answers;
mod command;
mod engine;
mod error;
mod exchange;
mod options;
mod routes;
mod rules;
