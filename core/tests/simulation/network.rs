//! What becomes of statements and replies on their way, and of the rows that they meet: lost, late, refused, locked.

use std::time::Duration;

use agentkey::engine::{Fault, Statement, StatementKind};

use crate::promises::{Checked, ProcessId};
use crate::world::World;

/// A driver gives a statement up this long after its callers did.
const STATEMENT_MARGIN: Duration = Duration::from_secs(1);
/// What the database says of a row that it refuses to change.
pub const POISON: [&str; 2] = ["22003", "P0001"];

pub enum Message {
    Request {
        process: ProcessId,
        statement: Statement,
        sent_at: Duration,
        /// It waits for a connection.
        is_held: bool,
    },
    /// `due`: when the driver learns of it.
    Reply { process: ProcessId, statement: Statement, result: Result<Vec<String>, Fault>, due: Duration },
}

/// What becomes of a statement on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Executed,
    Aborted(&'static str),
    /// It ends with an SQLSTATE that does not say whether it was executed: the server was shut down, or a pooler answers
    /// for a server that is gone.
    CutOff {
        sqlstate: &'static str,
        executed: bool,
    },
    /// No connection is to be had.
    NeverSent,
    ReplyLost,
    RequestLost,
    /// The driver's own time limit ends it; the database may or may not have executed it.
    Silence {
        executed: bool,
    },
}

impl Message {
    pub fn process(&self) -> ProcessId {
        match self {
            Message::Request { process, .. } | Message::Reply { process, .. } => *process,
        }
    }

    pub fn due(&self) -> Duration {
        match self {
            Message::Request { .. } => Duration::ZERO,
            Message::Reply { due, .. } => *due,
        }
    }

    pub fn is_due(&self, now: Duration) -> bool {
        self.due() <= now
    }
}

impl World {
    /// Delivers a message, if it may be delivered now.
    pub fn deliver(&mut self, n: usize) -> Checked {
        if matches!(&self.messages[n], Message::Reply { due, .. } if *due > self.now) {
            return Ok(());
        }
        match self.messages.swap_remove(n) {
            Message::Request { process, statement, sent_at, is_held: false } => {
                self.deliver_request(process, statement, sent_at)
            }
            Message::Request { process, statement, .. } => match self.begin(process, statement)? {
                Some(statement) => self.deliver_request(process, statement, self.now),
                None => Ok(()),
            },
            Message::Reply { process, statement, result, .. } => {
                self.deliver_reply(process, &statement, result)
            }
        }
    }

    fn deliver_request(&mut self, process: ProcessId, statement: Statement, sent_at: Duration) -> Checked {
        if self.processes.iter().all(|p| p.id != process) {
            self.promises.coverage.count("statement", "sent by an engine that is gone");
        }
        let fate = self.fate(&statement);
        self.trace(|| format!("the statement {:?} of process {process} is {fate:?}", statement.id));
        let is_executed = matches!(
            fate,
            Fate::Executed
                | Fate::ReplyLost
                | Fate::CutOff { executed: true, .. }
                | Fate::Silence { executed: true }
        );
        let mut rows = Vec::new();
        if is_executed {
            let locked = self.locked_row();
            let (read, effects) = self.db.execute(&statement, locked);
            self.trace(|| format!("    {rows:?} {effects:?}", rows = read));
            self.promises.executed(&self.db, process, &statement, &effects)?;
            self.learn_names();
            rows = read;
        }
        let (result, due) = match fate {
            Fate::Executed => (Ok(rows), self.now),
            Fate::Aborted(sqlstate) | Fate::CutOff { sqlstate, .. } => {
                (Err(Fault::refused(sqlstate, "as the schedule has it")), self.now)
            }
            Fate::NeverSent => (Err(Fault::not_sent("no connection was to be had")), self.now),
            Fate::ReplyLost | Fate::RequestLost => (Err(Fault::lost("the connection was lost")), self.now),
            Fate::Silence { .. } => {
                let due = sent_at + self.setup.options.timeout + STATEMENT_MARGIN;
                (Err(Fault::timed_out("no answer in time")), due.max(self.now))
            }
        };
        self.messages.push(Message::Reply { process, statement, result, due });
        Ok(())
    }

    /// A row that somebody else has locked, now and then and for a while.
    fn locked_row(&mut self) -> Option<i64> {
        if !self.has_faults {
            return None;
        }
        if self.locked.is_none_or(|(_, until)| until <= self.now)
            && self.random.chance(self.setup.locked_percent)
        {
            let row = self.random.between(1, self.db.keys.len() as i64);
            let time = self.random.pick(&[0, 5, 50, 3_000]);
            self.locked = Some((row, self.now + Duration::from_millis(time)));
            return Some(row);
        }
        self.locked.filter(|(_, until)| *until > self.now).map(|(row, _)| row)
    }

    fn fate(&mut self, statement: &Statement) -> Fate {
        if self.has_faults && self.setup.poisoned.is_some_and(|id| self.db.draws_on(statement, id)) {
            self.promises.coverage.count("fault", "refused for one row");
            return Fate::Aborted(self.random.pick(&POISON));
        }
        if !self.has_faults || !self.random.chance(self.setup.fault_percent) {
            return Fate::Executed;
        }
        let is_outdated = self.random.chance(8);
        let aborted = self.random.pick(if is_outdated {
            &["42703", "42P01"]
        } else {
            &["40001", "40P01", "55P03", "57014"]
        });
        // Another client was recording the same idempotency key.
        let aborted = if matches!(
            statement.kind,
            StatementKind::SpendFlat | StatementKind::SpendFresh | StatementKind::Spend
        ) && self.random.chance(30)
        {
            "23505"
        } else {
            aborted
        };
        let cut_off = self.random.pick(&["57P01", "08P01", "08006"]);
        let (fate, event) = match self.random.below(9) {
            0 | 1 => (Fate::Aborted(aborted), "aborted"),
            2 => (Fate::ReplyLost, "reply lost"),
            3 => (Fate::RequestLost, "request lost"),
            6 => (Fate::NeverSent, "never sent"),
            7 => (Fate::CutOff { sqlstate: cut_off, executed: true }, "cut off after execution"),
            8 => (Fate::CutOff { sqlstate: cut_off, executed: false }, "cut off and no execution"),
            // Nobody limits the time of a migration.
            _ if statement.kind == StatementKind::Migrate => (Fate::ReplyLost, "reply lost"),
            4 => (Fate::Silence { executed: true }, "no reply after execution"),
            _ => (Fate::Silence { executed: false }, "no reply and no execution"),
        };
        self.promises.coverage.count("fault", event);
        fate
    }

    fn deliver_reply(
        &mut self,
        process: ProcessId,
        statement: &Statement,
        result: Result<Vec<String>, Fault>,
    ) -> Checked {
        let Some(at) = self.processes.iter().position(|p| p.id == process) else {
            self.promises.coverage.count("reply", "for an engine that is gone");
            return Ok(());
        };
        self.trace(|| {
            format!("process {process} learns of {:?}: {:?}", statement.id, result.as_ref().map(Vec::len))
        });
        self.promises.received(process, statement, &result)?;
        let engine = &mut self.processes[at].engine;
        match result {
            Ok(rows) => engine.receive(self.now, statement.id, Ok(&rows)),
            Err(fault) => engine.receive(self.now, statement.id, Err(fault)),
        }
        self.drive(at)
    }
}
