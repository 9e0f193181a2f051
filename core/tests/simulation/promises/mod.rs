//! What was asked, what the database did, what was answered; and the promises that tie these together. A broken one is
//! an `Err` that says which.

mod answers;
mod ends;
mod sent;
mod spends;
mod sums;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use agentkey::engine::{Fault, Statement, StatementId, StatementKind, Ticket};

use crate::books::Book;
use crate::coverage::Coverage;
use crate::database::{Database, Effect, View};
use ends::Ends;
use spends::{Spending, plain_charges};
use sums::{MOST_OPEN_CHARGES, costs_of, sums_of};

pub type Checked<T = ()> = Result<T, String>;

/// Names an engine for ever: one that is started anew has another number.
pub type ProcessId = usize;

/// What a caller asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    Validate {
        lookup: String,
    },
    /// The cost, in micro-cents, is the only one of this size for this key: so it can be followed everywhere.
    Charge {
        lookup: String,
        cost: i64,
    },
    /// Any other form of spend.
    Spend {
        lookup: String,
        kind: char,
        amount: i64,
        idempotency_key: Option<String>,
    },
    /// A settle (the cost is the only one of this size), release or extension. `lookup`: the reservation's key.
    End {
        id: String,
        lookup: String,
        cost: i64,
    },
    Sweep,
    Revoke {
        id: i64,
        lookup: String,
    },
    /// The key has a name that no other one has.
    Create {
        name: String,
    },
    EnsureSubject,
    Migrate,
}

impl Ask {
    /// What it may spend, and on whose budget.
    pub fn money(&self) -> Option<(&str, i64)> {
        match self {
            Ask::Charge { lookup, cost } | Ask::End { lookup, cost, .. } => Some((lookup, *cost)),
            Ask::Spend { lookup, kind, amount, .. } if *kind != 'r' => Some((lookup, *amount)),
            _ => None,
        }
    }
}

/// What the database decided on a charge.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Decision {
    Recorded { before: View, used_after: i64 },
    DoesNotFit,
    NoLiveKey,
}

/// A request from its submission to its answer.
#[derive(Debug)]
struct Call {
    ask: Ask,
    deadline: Duration,
    /// Nobody waits any more: it was answered, cancelled, or its process is gone.
    closed: bool,
    /// The charge is in a statement whose outcome is not known to have been nothing.
    under_way: bool,
    was_sent: bool,
    /// A revocation of its key was acknowledged before it was submitted.
    revoked_before: bool,
    was_migrated: bool,
    decision: Option<Decision>,
    /// On whose budgets it was recorded, and in which of their periods.
    draws: Vec<(String, i64)>,
    /// What look-ups that were sent after its submission found.
    seen: Vec<Option<View>>,
}

/// The record of a schedule.
#[derive(Default)]
pub struct Promises {
    calls: BTreeMap<(ProcessId, Ticket), Call>,
    /// Who is charged how much, by process, key and cost.
    charges: HashMap<(String, i64), (ProcessId, Ticket)>,
    /// The charges in each statement that says of a key only what they are in all.
    sums: HashMap<(ProcessId, StatementId), Vec<(String, i64)>>,
    spends: HashMap<String, Spending>,
    ends: Ends,
    /// Each key and its ancestors, nearest first.
    chains: HashMap<String, Vec<String>>,
    /// For each look-up that is under way, who waited when it was sent.
    audiences: HashMap<(ProcessId, StatementId), Vec<Ticket>>,
    books: BTreeMap<String, Book>,
    /// The key whose row the database refuses to change.
    poisoned: Option<String>,
    /// Acknowledged revocations.
    revoked: Vec<String>,
    /// From here on every call has to succeed.
    pub faults_are_over: bool,
    pub coverage: Coverage,
}

impl Promises {
    /// What is used in the beginning counts as acknowledged.
    pub fn new(db: &Database, poisoned: Option<i64>) -> Self {
        let poisoned = db.keys.iter().find(|key| Some(key.id) == poisoned).map(|key| key.lookup.clone());
        let mut promises = Promises { poisoned, ..Promises::default() };
        for key in &db.keys {
            promises.chains.insert(key.lookup.clone(), db.lookups_of_chain(key));
            let view = key.own_view(db.now);
            promises.books.entry(key.lookup.clone()).or_default().was_used_before(view.period, view.used);
        }
        promises
    }

    /// Whether a cost would be the only one of its size, and every sum of open charges still be that of some alone.
    pub fn is_new_cost(&self, lookup: &str, cost: i64) -> bool {
        let open =
            self.calls.values().filter(|call| !call.closed).filter_map(|call| call.ask.charge_of(lookup));
        let open: Vec<i64> = open.collect();
        if self.charges.contains_key(&(lookup.to_owned(), cost)) || open.len() >= MOST_OPEN_CHARGES {
            return false;
        }
        let sums: HashSet<i128> = sums_of(&open).into_iter().map(|(sum, _)| sum).collect();
        sums.iter().all(|sum| !sums.contains(&(sum + i128::from(cost))))
    }

    /// Whether nobody asked for a spend of this name.
    pub fn is_new_spend(&self, ask: &Ask) -> bool {
        let name = ask.spend_name();
        self.calls.values().all(|call| call.ask.spend_name() != name)
    }

    /// The requests that somebody waits for.
    pub fn open_calls(&self) -> Vec<(ProcessId, Ticket)> {
        self.calls.iter().filter(|(_, call)| !call.closed).map(|(id, _)| *id).collect()
    }

    pub fn submitted(
        &mut self,
        db: &Database,
        process: ProcessId,
        ticket: Ticket,
        ask: Ask,
        deadline: Duration,
    ) -> Checked {
        let mut revoked_before = false;
        if let Ask::Charge { lookup, cost } = &ask {
            self.charges.insert((lookup.clone(), *cost), (process, ticket));
        }
        if let Some((lookup, cost)) = ask.money() {
            self.may_be_spent(lookup, cost);
        }
        if let Ask::Charge { lookup, .. } | Ask::Validate { lookup } | Ask::Spend { lookup, .. } = &ask {
            revoked_before = self.revoked.contains(lookup);
        }
        let deadline = if ask == Ask::Migrate { Duration::MAX } else { deadline };
        let call = Call {
            ask,
            deadline,
            closed: false,
            under_way: false,
            was_sent: false,
            revoked_before,
            was_migrated: db.migrated,
            decision: None,
            draws: Vec::new(),
            seen: Vec::new(),
        };
        match self.calls.insert((process, ticket), call) {
            None => Ok(()),
            Some(_) => Err(format!("{ticket:?} was given out twice")),
        }
    }

    /// The caller is gone: what was not sent never will be.
    pub fn cancelled(&mut self, process: ProcessId, ticket: Ticket) {
        let Some(call) = self.calls.get_mut(&(process, ticket)) else { return };
        call.closed = true;
        if let Some((lookup, cost)) = call.ask.money().map(|(lookup, cost)| (lookup.to_owned(), cost)) {
            if call.was_sent {
                return self.coverage.count("caller", "gone after its statement was sent");
            }
            self.coverage.count("caller", "gone before its statement was sent");
            self.was_not_spent(&lookup, cost);
        }
    }

    /// Money may move on a key and its ancestors from now on.
    fn may_be_spent(&mut self, lookup: &str, cost: i64) {
        for lookup in self.chain(lookup) {
            self.books.entry(lookup).or_default().may_be_charged(cost);
        }
    }

    fn was_not_spent(&mut self, lookup: &str, cost: i64) {
        for lookup in self.chain(lookup) {
            self.books.entry(lookup).or_default().was_not_charged(cost);
        }
    }

    fn was_spent(&mut self, draws: &[(String, i64)], cost: i64) {
        for (lookup, period) in draws {
            self.books.entry(lookup.clone()).or_default().was_charged(*period, cost);
        }
    }

    fn chain(&self, lookup: &str) -> Vec<String> {
        self.chains.get(lookup).cloned().unwrap_or_else(|| vec![lookup.to_owned()])
    }

    pub fn process_gone(&mut self, process: ProcessId) {
        for (_, call) in self.calls.range_mut((process, Ticket(0))..=(process, Ticket(u64::MAX))) {
            call.closed = true;
        }
    }

    fn charged_call(&mut self, process: ProcessId, lookup: &str, cost: i64) -> Checked<&mut Call> {
        let id = self.charges.get(&(lookup.to_owned(), cost)).filter(|(owner, _)| *owner == process);
        id.and_then(|id| self.calls.get_mut(id))
            .ok_or_else(|| format!("a charge of {cost} that nobody asked for"))
    }

    /// The database ran a statement.
    pub fn executed(
        &mut self,
        db: &Database,
        process: ProcessId,
        statement: &Statement,
        effects: &[Effect],
    ) -> Checked {
        for effect in effects {
            match effect {
                Effect::Read { lookup, view } => {
                    for ticket in self.audiences.get(&(process, statement.id)).into_iter().flatten() {
                        let call = self.calls.get_mut(&(process, *ticket)).filter(|call| !call.closed);
                        if let Some(call) = call
                            .filter(|call| matches!(&call.ask, Ask::Validate { lookup: l } if l == lookup))
                        {
                            call.seen.push(*view);
                        }
                    }
                }
                Effect::Charged { lookup, costs, before, after } => {
                    let parts = self.sums.get(&(process, statement.id));
                    let costs = parts.map_or_else(|| costs.clone(), |parts| costs_of(parts, lookup));
                    self.decided(process, lookup, &costs, *before, *after)?;
                }
                Effect::Spent(spent) => {
                    if spent.status == "budget_exceeded" && spent.refusal.is_none() {
                        self.coverage.count("spend", "tried again");
                    }
                    self.spend_decided(spent)?;
                    if plain_charges(statement).contains(&(spent.lookup.clone(), spent.amount))
                        && spent.kind == 'c'
                        && spent.idempotency_key.is_none()
                    {
                        self.plain_decided(db, process, spent)?;
                    }
                }
                Effect::Finished { changed_to } => {
                    if *changed_to == Some("expired") {
                        self.ends.reservation_expired();
                        self.coverage.count("sweep", "ended a reservation");
                    }
                }
                Effect::Inserted => self.coverage.count("subject", "there now"),
                Effect::InsertedBefore => self.coverage.count("subject", "there before"),
                Effect::Busy => self.coverage.count("statement", "left a locked row out"),
                Effect::Undecided | Effect::Other => {}
            }
        }
        db.check_totals()?;
        self.check_books(db)
    }

    /// Another client recorded a cost, one by one.
    pub fn foreign_charge(&mut self, db: &Database, lookup: &str, cost: i64) -> Checked {
        if let Some(view) = db.view(lookup) {
            let book = self.books.entry(lookup.to_owned()).or_default();
            book.may_be_charged(cost);
            book.was_charged(view.period, cost);
        }
        self.check_books(db)
    }

    /// A reply reaches the engine. A charge that certainly was not made may be sent again.
    pub fn received(
        &mut self,
        process: ProcessId,
        statement: &Statement,
        result: &Result<Vec<String>, Fault>,
    ) -> Checked {
        let nothing_happened = match result {
            Err(fault) => !fault.may_have_taken_effect(),
            Ok(rows) => statement.kind == StatementKind::ChargeOne && rows.is_empty(),
        };
        self.spends_received(statement, nothing_happened, result.is_ok());
        let mut is_outlived = true;
        let charges = self.charges_of(process, statement);
        for (lookup, cost) in &charges {
            let call = self.charged_call(process, lookup, *cost)?;
            let was_refused = result.is_ok() && !matches!(call.decision, Some(Decision::Recorded { .. }));
            call.under_way &= !nothing_happened && !was_refused;
            is_outlived &= call.closed;
        }
        if is_outlived && !charges.is_empty() {
            self.coverage.count("statement", "outlived by the callers' time");
        }
        self.audiences.remove(&(process, statement.id));
        self.sums.remove(&(process, statement.id));
        Ok(())
    }

    /// Time limits were looked after: nobody may be left whose time is over.
    pub fn expired(&self, now: Duration, process: ProcessId) -> Checked {
        let calls = self.calls.range((process, Ticket(0))..=(process, Ticket(u64::MAX)));
        match calls.into_iter().find(|(_, call)| !call.closed && call.deadline <= now) {
            Some((_, call)) => Err(format!("its time is over and it has no answer: {call:?}")),
            None => Ok(()),
        }
    }

    /// acknowledged <= used <= acknowledged + unknown, and used <= cap, of every key.
    pub fn check_books(&mut self, db: &Database) -> Checked {
        for (lookup, book) in &mut self.books {
            if let Some(view) = db.view(lookup) {
                let may_be_over =
                    db.find(lookup).is_some_and(|key| db.companions.may_be_over.contains(&key.id));
                book.check(&view, may_be_over).map_err(|why| format!("key {lookup}: {why}"))?;
            }
        }
        Ok(())
    }
}
