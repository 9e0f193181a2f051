//! The world of a schedule: engines as processes of their own, a database, two clocks.

use std::time::Duration;

use agentkey::engine::{Answer, Begun, Engine, KeyHash, Request, Statement, Ticket};
use agentkey::{Error, ErrorCode};

use crate::database::Database;
use crate::network::Message;
use crate::promises::{Ask, Checked, ProcessId, Promises};
use crate::random::Random;
use crate::setup::{Name, Setup};

/// No schedule needs nearly as many to come to rest.
const MAX_STEPS_TO_REST: usize = 5_000;

pub struct Process {
    pub id: ProcessId,
    pub engine: Engine,
}

pub struct World {
    pub random: Random,
    pub setup: Setup,
    pub db: Database,
    pub names: Vec<Name>,
    pub processes: Vec<Process>,
    pub messages: Vec<Message>,
    /// The drivers' clock.
    pub now: Duration,
    pub promises: Promises,
    pub has_faults: bool,
    /// A row that somebody else has locked, and until when.
    pub locked: Option<(i64, Duration)>,
    pub settles_asked: i64,
    pub creations_asked: u64,
    next_process: ProcessId,
    is_traced: bool,
}

impl World {
    pub fn new(seed: u64, is_traced: bool) -> Self {
        let mut random = Random::new(seed);
        let (setup, db, names) = Setup::draw(&mut random);
        let promises = Promises::new(&db, setup.poisoned);
        let mut world = World {
            random,
            setup,
            db,
            names,
            processes: Vec::new(),
            messages: Vec::new(),
            now: Duration::ZERO,
            promises,
            has_faults: true,
            locked: None,
            settles_asked: 0,
            creations_asked: 0,
            next_process: 0,
            is_traced,
        };
        for _ in 0..world.setup.engines {
            let process = world.start();
            world.processes.push(process);
        }
        world
    }

    pub fn start(&mut self) -> Process {
        self.next_process += 1;
        let mut options = self.setup.options.clone();
        options.seed = self.random.next();
        Process { id: self.next_process, engine: Engine::new(options) }
    }

    /// Says what happens, where somebody reads it; keys by their place among the names.
    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            let mut line = what();
            for (n, name) in self.names.iter().enumerate() {
                line = line.replace(&name.lookup, &format!("key{n}"));
            }
            eprintln!("{:>9.3?} {line}", self.now.as_secs_f64());
        }
    }

    /// Submits a request and sends what can be sent. `None` if it was refused at once.
    pub fn submit(&mut self, at: usize, request: Request, ask: Ask) -> Checked<Option<Ticket>> {
        let process = &mut self.processes[at];
        let id = process.id;
        let limit = self.setup.options.limit_of(&request).unwrap_or(self.setup.options.timeout);
        let ticket = match process.engine.submit(self.now, request) {
            Ok(ticket) => ticket,
            Err(error) if matches!(error.code(), ErrorCode::Overloaded | ErrorCode::Closed) => {
                self.promises.coverage.count("error", error.code().as_str());
                return Ok(None);
            }
            Err(error) => return Err(format!("{ask:?} is refused: {error:?}")),
        };
        self.trace(|| format!("process {id} submits {ask:?} as {ticket:?}"));
        let deadline = self.now + limit;
        self.promises.submitted(&self.db, id, ticket, ask, deadline)?;
        self.drive(at)?;
        Ok(Some(ticket))
    }

    /// What a driver does after each event: sends all that may be sent, and hands on the answers.
    pub fn drive(&mut self, at: usize) -> Checked {
        let process = &mut self.processes[at];
        let id = process.id;
        let mut statements = Vec::new();
        while let Some(statement) = process.engine.poll(self.now) {
            statements.push(statement);
            if statements.len() > 1_000 {
                return Err("an engine sends without an end".to_owned());
            }
        }
        let answers = process.engine.answers();
        for statement in statements {
            // Now and then it has to wait for a connection.
            let is_held = self.setup.has_small_pool && self.random.chance(50);
            if is_held {
                self.trace(|| format!("process {id} has no connection for {}", shown(&statement)));
                self.processes[at].engine.hold(statement.id);
            } else {
                self.sends(id, &statement)?;
            }
            self.messages.push(Message::Request { process: id, statement, sent_at: self.now, is_held });
        }
        self.hand_on(id, answers)?;
        self.check_not_stalled(at)
    }

    fn sends(&mut self, process: ProcessId, statement: &Statement) -> Checked {
        self.trace(|| format!("process {process} sends {}", shown(statement)));
        self.promises.sent(process, statement, self.setup.options.max_batch)
    }

    fn hand_on(&mut self, id: ProcessId, answers: Vec<(Ticket, Result<Answer, Error>)>) -> Checked {
        for (ticket, answer) in answers {
            self.trace(|| format!("process {id} answers {ticket:?}: {answer:?}"));
            self.promises.answered(&self.db, self.now, id, ticket, &answer)?;
        }
        Ok(())
    }

    /// A statement has its connection. What is sent there.
    pub fn begin(&mut self, id: ProcessId, statement: Statement) -> Checked<Option<Statement>> {
        let Some(at) = self.processes.iter().position(|process| process.id == id) else { return Ok(None) };
        let was = statement.id;
        let engine = &mut self.processes[at].engine;
        let begun = match engine.begin(self.now, statement.id) {
            Begun::AsItIs => Some(statement),
            Begun::Instead(other) => Some(other),
            Begun::Nothing => None,
        };
        let answers = engine.answers();
        self.hand_on(id, answers)?;
        if begun.as_ref().is_none_or(|begun| begun.id != was) {
            self.promises.coverage.count("statement", "left out, for somebody is gone");
        }
        if let Some(statement) = &begun {
            self.sends(id, statement)?;
        } else {
            self.drive(at)?;
        }
        Ok(begun)
    }

    /// An engine that has something to do waits for a reply or for a time that is to come.
    fn check_not_stalled(&self, at: usize) -> Checked {
        let Process { id, engine } = &self.processes[at];
        let retry = engine.next_retry();
        if retry.is_some_and(|at| at <= self.now) {
            return Err(format!("process {id} would wait for {retry:?}, which is over"));
        }
        let waits_for_reply = || self.messages.iter().any(|message| message.process() == *id);
        if !engine.is_idle() && retry.is_none() && !waits_for_reply() {
            return Err(format!(
                "process {id} has something to do and waits for nothing: {:?}",
                engine.stats()
            ));
        }
        Ok(())
    }

    /// Others may use a key before its creation is acknowledged.
    pub fn learn_names(&mut self) {
        for key in &self.db.keys {
            if self.names.iter().any(|name| name.lookup == key.lookup) {
                continue;
            }
            if let Some(hash) = KeyHash::parse(&key.lookup) {
                self.names.push(Name::of_hash(hash));
            }
        }
    }

    /// The drivers' clock goes on, and they look after time limits and pauses.
    pub fn pass(&mut self, time: Duration) -> Checked {
        self.now += time;
        for at in 0..self.processes.len() {
            // Whether the end of a pause or that of somebody's time is noticed first is up to the driver.
            if self.random.chance(50) {
                self.drive(at)?;
            }
            self.processes[at].engine.expire(self.now);
            self.drive(at)?;
            self.promises.expired(self.now, self.processes[at].id)?;
        }
        Ok(())
    }

    /// Without further faults: delivers everything, and lets time go by as far as somebody waits for it.
    pub fn come_to_rest(&mut self) -> Checked {
        self.has_faults = false;
        for _ in 0..MAX_STEPS_TO_REST {
            let due: Vec<usize> =
                (0..self.messages.len()).filter(|n| self.messages[*n].is_due(self.now)).collect();
            if !due.is_empty() {
                let n = self.random.pick(&due);
                self.deliver(n)?;
                continue;
            }
            let waited_for = self
                .processes
                .iter_mut()
                .flat_map(|p| [p.engine.next_retry(), p.engine.next_deadline()])
                .flatten();
            let next =
                waited_for.chain(self.messages.iter().map(Message::due)).filter(|at| *at > self.now).min();
            match next {
                Some(at) => self.pass(at - self.now)?,
                None => return self.check_rest(),
            }
        }
        Err(format!("no rest after {MAX_STEPS_TO_REST} steps"))
    }

    fn check_rest(&self) -> Checked {
        if let Some((process, ticket)) = self.promises.open_calls().first() {
            return Err(format!("{ticket:?} of process {process} is never answered"));
        }
        match self.processes.iter().find(|p| !p.engine.is_idle() || p.engine.stats().pending > 0) {
            Some(Process { id, engine }) => Err(format!("process {id} is not idle: {:?}", engine.stats())),
            None => Ok(()),
        }
    }
}

fn shown(statement: &Statement) -> String {
    let params: Vec<&str> = statement.params.iter().map(|p| p.as_deref().unwrap_or("NULL")).collect();
    format!("{:?} {:?} {}", statement.id, statement.kind, params.join(" "))
}
