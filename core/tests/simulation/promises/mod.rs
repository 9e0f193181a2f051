//! What was asked, what the database did, what was answered; and the promises that tie these together. A broken one is
//! an `Err` that says which.

mod answers;
mod spends;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use agentkey::{Fault, Statement, StatementId, StatementKind, Ticket};

use crate::books::Book;
use crate::coverage::Coverage;
use crate::database::{Database, Effect, View, array};
use crate::reservations::Spent;
use spends::{Ends, Spending, charges_of_groups, plain_charges};

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
        kind: String,
        amount: i64,
        idempotency_key: Option<String>,
        reservation: Option<String>,
    },
    /// A settle (the cost is the only one of this size), release or extension. `lookup`: the reservation's key.
    Finish {
        id: String,
        lookup: String,
        cost: i64,
    },
    Sweep,
    Revoke {
        id: String,
        lookup: String,
    },
    Insert {
        lookup: String,
    },
    Migrate,
}

impl Ask {
    /// What it may spend, and on whose budget.
    pub fn money(&self) -> Option<(&str, i64)> {
        match self {
            Ask::Charge { lookup, cost } | Ask::Finish { lookup, cost, .. } => Some((lookup, *cost)),
            Ask::Spend { lookup, kind, amount, .. } if kind != "r" => Some((lookup, *amount)),
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
    spends: HashMap<String, Spending>,
    ends: Ends,
    /// Each key and its ancestors, nearest first.
    chains: HashMap<String, Vec<String>>,
    /// For each look-up that is under way, who waited when it was sent.
    audiences: HashMap<(ProcessId, StatementId), Vec<Ticket>>,
    books: BTreeMap<String, Book>,
    /// Acknowledged revocations.
    revoked: Vec<String>,
    /// From here on every call has to succeed.
    pub faults_are_over: bool,
    pub coverage: Coverage,
}

impl Promises {
    /// What is used in the beginning counts as acknowledged.
    pub fn new(db: &Database) -> Self {
        let mut promises = Promises::default();
        for (at, key) in db.keys.iter().enumerate() {
            let chain = db.chain(at).into_iter().map(|at| db.keys[at].lookup.clone()).collect();
            promises.chains.insert(key.lookup.clone(), chain);
            let view = key.own_view(db.now);
            promises.books.entry(key.lookup.clone()).or_default().was_used_before(view.period, view.used);
        }
        promises
    }

    /// Whether a cost would be the only one of its size.
    pub fn is_new_cost(&self, lookup: &str, cost: i64) -> bool {
        !self.charges.contains_key(&(lookup.to_owned(), cost))
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
        if let Ask::Charge { lookup, .. } | Ask::Validate { lookup } = &ask {
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

    /// An engine sends a statement.
    pub fn sent(&mut self, process: ProcessId, statement: &Statement, max_batch: usize) -> Checked {
        let first = statement.params.first().and_then(|param| param.as_deref()).unwrap_or_default();
        let batch = || {
            let lookups = array(first);
            if lookups.is_empty() || lookups.len() > max_batch {
                return Err(format!("a batch of {}", lookups.len()));
            }
            Ok(lookups)
        };
        match statement.kind {
            StatementKind::Validate | StatementKind::ValidateMany | StatementKind::ValidateOne => {
                let plain = statement.kind == StatementKind::ValidateOne;
                let lookups = if plain { vec![first.to_owned()] } else { batch()? };
                let waiting: Vec<Ticket> = self
                    .calls
                    .range((process, Ticket(0))..=(process, Ticket(u64::MAX)))
                    .filter(|(_, call)| !call.closed)
                    .filter(
                        |(_, call)| matches!(&call.ask, Ask::Validate { lookup } if lookups.contains(lookup)),
                    )
                    .map(|((_, ticket), _)| *ticket)
                    .collect();
                if waiting.is_empty() {
                    return Err("a look-up that nobody waits for".to_owned());
                }
                self.audiences.insert((process, statement.id), waiting);
            }
            StatementKind::Settle => self.finishes_sent(statement)?,
            StatementKind::ChargeOne
            | StatementKind::ChargeMany
            | StatementKind::ChargeBatch
            | StatementKind::ChargeTree
            | StatementKind::Spend => {
                self.spends_sent(process, statement)?;
                let charges = charges_of(statement);
                if charges.len() > max_batch {
                    return Err(format!("{} charges in a batch", charges.len()));
                }
                if charges.len() > 1 {
                    let one_key = charges.iter().all(|(lookup, _)| *lookup == charges[0].0);
                    let keys = if one_key {
                        "shared by charges of one key"
                    } else {
                        "shared by charges of several keys"
                    };
                    self.coverage.count("statement", keys);
                }
                for (lookup, cost) in charges {
                    let call = self.charged_call(process, &lookup, cost)?;
                    if call.closed {
                        return Err(format!(
                            "a charge of {cost} is sent though nobody waits for it any more"
                        ));
                    }
                    if call.under_way {
                        return Err(format!(
                            "a charge of {cost} is sent again though it may have been recorded"
                        ));
                    }
                    (call.under_way, call.was_sent) = (true, true);
                }
            }
            StatementKind::Touch => {
                batch()?;
            }
            _ => {}
        }
        Ok(())
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
                    self.decided(process, lookup, costs, *before, *after)?
                }
                Effect::Spent(spent) => {
                    if spent.status == "budget_exceeded" && !spent.has_obstacle {
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
                Effect::Finished { changed_to, .. } => {
                    if *changed_to == Some("expired") {
                        self.coverage.count("sweep", "ended a reservation");
                    }
                }
                Effect::Undecided | Effect::Revoked | Effect::Inserted | Effect::Other => {}
            }
        }
        db.check_totals()?;
        self.check_books(db)
    }

    /// A plain charge was decided by the general statement.
    fn plain_decided(&mut self, db: &Database, process: ProcessId, spent: &Spent) -> Checked {
        let view = db.find(&spent.lookup).map(|key| key.own_view(db.now));
        let call = self.charged_call(process, &spent.lookup, spent.amount)?;
        if matches!(call.decision, Some(Decision::Recorded { .. })) {
            return Err(format!("a charge of {} was recorded and then decided again", spent.amount));
        }
        call.decision = match (spent.status, view, spent.money) {
            ("ok", Some(view), Some((_, used, reserved))) => {
                call.draws.clone_from(&spent.draws);
                Some(Decision::Recorded { before: View { reserved, ..view }, used_after: used })
            }
            ("budget_exceeded", ..) if spent.has_obstacle => Some(Decision::DoesNotFit),
            ("budget_exceeded", ..) => None,
            _ => Some(Decision::NoLiveKey),
        };
        Ok(())
    }

    /// Tells from the totals what became of each charge: in any serial order the cheapest come first.
    fn decided(
        &mut self,
        process: ProcessId,
        lookup: &str,
        costs: &[i64],
        before: Option<View>,
        after: i64,
    ) -> Checked {
        let mut used = before.map_or(0, |view| view.used);
        for cost in costs {
            let call = self.charged_call(process, lookup, *cost)?;
            if matches!(call.decision, Some(Decision::Recorded { .. })) {
                return Err(format!("a charge of {cost} was recorded and then decided again"));
            }
            let decision = match before {
                None => Decision::NoLiveKey,
                Some(before) if used.checked_add(*cost).is_some_and(|sum| sum <= after) => {
                    used += cost;
                    Decision::Recorded { before, used_after: used }
                }
                Some(before) => {
                    let room = before.cap() - before.reserved - after;
                    if *cost <= room {
                        return Err(format!("a charge of {cost} was refused with room for {room}"));
                    }
                    Decision::DoesNotFit
                }
            };
            if let (Decision::Recorded { .. }, Some(before)) = (decision, before) {
                call.draws = vec![(lookup.to_owned(), before.period)];
            }
            call.decision = Some(decision);
        }
        let Some(before) = before else { return Ok(()) };
        if used != after {
            return Err(format!("{after} is used, the charges add up to {used}"));
        }
        if after == before.cap() - before.reserved && after > before.used {
            self.coverage.count("database", "a budget was used to the last");
        }
        Ok(())
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
            Err(fault) => fault.sqlstate.is_some(),
            Ok(rows) => statement.kind == StatementKind::ChargeOne && rows.is_empty(),
        };
        self.spends_received(statement, nothing_happened, result.is_ok());
        let mut is_outlived = true;
        let charges = charges_of(statement);
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

/// How messages of faults begin that say that a statement had no effect.
pub const CERTAIN: &str = "SQLSTATE";

/// The charges in a statement.
fn charges_of(statement: &Statement) -> Vec<(String, i64)> {
    if matches!(statement.kind, StatementKind::Spend | StatementKind::ChargeTree) {
        return plain_charges(statement);
    }
    let is_charge = [StatementKind::ChargeOne, StatementKind::ChargeMany, StatementKind::ChargeBatch];
    if !is_charge.contains(&statement.kind) {
        return Vec::new();
    }
    let params: Vec<&str> = statement.params.iter().map(|p| p.as_deref().unwrap_or_default()).collect();
    let cost = |text: &str| text.parse().expect("a cost");
    match params.as_slice() {
        [lookups, costs] | [lookups, _, costs] if statement.kind != StatementKind::ChargeOne => {
            let (lookups, costs) = (array(lookups), array(costs));
            charges_of_groups(&lookups, &costs).map(|(lookup, text)| (lookup, cost(&text))).collect()
        }
        [lookup, micros] => vec![((*lookup).to_owned(), cost(micros))],
        _ => Vec::new(),
    }
}
