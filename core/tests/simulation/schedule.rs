//! A schedule: random steps in a world, and then its end, without faults.

use std::time::Duration;

use agentkey::{
    AccountFilter, Cost, CreateKey, Finish, KeyPrefix, MAX_CENTS, MICROCENTS_PER_CENT, NewRow, Overrun,
    Request, ReservationId, Spend, SpendKind,
};

use crate::coverage::Coverage;
use crate::promises::{Ask, Checked};
use crate::setup::{Name, SUBJECT};
use crate::world::World;

/// Runs the schedule of a seed.
pub fn run(seed: u64, is_traced: bool) -> Checked<Coverage> {
    let mut world = World::new(seed, is_traced);
    for _ in 0..world.setup.steps {
        step(&mut world)?;
    }
    world.come_to_rest()?;
    everything_works_again(&mut world)?;
    close(&mut world)?;
    Ok(world.promises.coverage)
}

fn step(world: &mut World) -> Checked {
    match world.random.below(100) {
        0..34 => submit(world),
        34..78 if !world.messages.is_empty() => {
            let n = world.random.below(world.messages.len());
            world.deliver(n)
        }
        78..90 => {
            let time = world.random.pick(&[1, 10, 10, 100, 100, 500, 1_000, 1_500, 11_000]);
            world.pass(Duration::from_millis(time))
        }
        90..92 => move_database_clock(world),
        92..94 => cancel(world),
        94 => restart(world),
        95.. if world.setup.has_foreign_clients => charge_as_another_client(world),
        _ => submit(world),
    }
}

fn submit(world: &mut World) -> Checked {
    let at = world.random.below(world.processes.len());
    let name = &world.names[world.random.below(world.names.len())].clone();
    let lookup = name.lookup.clone();
    let (request, ask) = match world.random.below(100) {
        0..30 => (Request::Validate(name.credential.clone()), Ask::Validate { lookup }),
        30..48 => match spend(world, name) {
            Some(asked) => asked,
            None => return Ok(()),
        },
        48..60 => match finish(world) {
            Some(asked) => asked,
            None => return Ok(()),
        },
        60 => (Request::Sweep, Ask::Sweep),
        61..90 => {
            let Some(cost) = new_cost(world, &lookup) else { return Ok(()) };
            (Request::Charge(name.credential.clone(), Cost::Microcents(cost)), Ask::Charge { lookup, cost })
        }
        90..94 => {
            let id = world.db.find(&lookup).map_or_else(|| "999".to_owned(), |key| key.id.to_string());
            (
                Request::Revoke { id: id.clone(), account: AccountFilter::Any, within: None },
                Ask::Revoke { id, lookup },
            )
        }
        94..98 => insertion(world)?,
        _ => (Request::Migrate, Ask::Migrate),
    };
    world.submit(at, request, ask).map(|_| ())
}

/// A spend in one of its other forms.
fn spend(world: &mut World, name: &Name) -> Option<(Request, Ask)> {
    let lookup = name.lookup.clone();
    let kind = world.random.pick(&["c", "o", "r", "r"]);
    // A cost without fractions, so that a reserve holds what it says.
    let number = world.random.below(4);
    let idempotency_key = (kind == "c" || world.random.chance(50)).then(|| format!("{kind}{number}"));
    let amount = match &idempotency_key {
        Some(_) => (number as i64 + 1) * 11 * MICROCENTS_PER_CENT,
        None => world.random.between(1, 150) * MICROCENTS_PER_CENT,
    };
    let mut reservation = None;
    let kind_of_spend = match kind {
        "c" => SpendKind::Charge(Overrun::Reject),
        "o" => SpendKind::Charge(Overrun::Record),
        _ => {
            world.reservations_made += 1;
            let id =
                ReservationId::parse(&format!("00000000-0000-4000-8000-{:012}", world.reservations_made))?;
            reservation = Some(id.as_str().to_owned());
            world.reservations.push((id.clone(), lookup.clone(), amount));
            SpendKind::Reserve { id, ttl_seconds: world.random.pick(&[1, 60, 600, 86_400]) }
        }
    };
    let ask = Ask::Spend {
        lookup,
        kind: kind.to_owned(),
        amount,
        idempotency_key: idempotency_key.clone(),
        reservation,
    };
    if idempotency_key.is_none() && kind == "o" && !world.promises.is_new_spend(&ask) {
        return None;
    }
    let spend =
        Spend { kind: kind_of_spend, cost: Cost::Microcents(amount), idempotency_key, metadata: None };
    Some((Request::Spend(name.credential.clone(), Box::new(spend)), ask))
}

/// A settle, a release or an extension of a reservation, known or not.
fn finish(world: &mut World) -> Option<(Request, Ask)> {
    if world.reservations.is_empty() {
        return None;
    }
    // The last ones are the likeliest to be open.
    let from = world.reservations.len().saturating_sub(6);
    let (id, lookup, held) =
        world.reservations[from + world.random.below(world.reservations.len() - from)].clone();
    let at = id.as_str().to_owned();
    let finish = match world.random.below(10) {
        0..6 => {
            world.settles_asked += 1;
            // No other settle has this cost.
            let cents = world.random.between(0, held / MICROCENTS_PER_CENT + 20);
            Finish::Settle(Cost::Microcents(cents * MICROCENTS_PER_CENT + world.settles_asked))
        }
        6..9 => Finish::Release,
        _ => Finish::Extend { ttl_seconds: 60 },
    };
    let cost = match finish {
        Finish::Settle(Cost::Microcents(cost)) => cost,
        _ => 0,
    };
    Some((Request::Finish(id, finish), Ask::Finish { id: at, lookup, cost }))
}

/// A cost that no other charge of this key has: small, just what is left, or absurd.
fn new_cost(world: &mut World, lookup: &str) -> Option<i64> {
    let view = world.db.view(lookup);
    let cap = view.and_then(|view| view.budget_cents).unwrap_or(500);
    let fraction =
        if world.setup.has_fractions { world.random.between(0, MICROCENTS_PER_CENT - 1) } else { 0 };
    let cost = match (world.random.below(20), view) {
        (0..3, Some(view)) => view.cap() - view.reserved - view.used,
        (3, _) => (MAX_CENTS - world.random.between(0, 100)) * MICROCENTS_PER_CENT,
        _ => world.random.between(1, cap.max(20) / 2) * MICROCENTS_PER_CENT + fraction,
    };
    (cost > 0 && world.promises.is_new_cost(lookup, cost)).then_some(cost)
}

fn insertion(world: &mut World) -> Checked<(Request, Ask)> {
    let spec = CreateKey::new("7").budget_cents(world.random.between(0, 400));
    let spec = if world.random.chance(50) { spec.budget_period("hour").expires_in("1d") } else { spec };
    let options = &world.setup.options;
    let failed = |error| format!("no row to insert: {error:?}");
    if world.random.chance(50) {
        let row = NewRow::for_subject(SUBJECT, spec, options).map_err(failed)?;
        return Ok((Request::Insert(Box::new(row)), Ask::Insert { lookup: SUBJECT.to_owned() }));
    }
    let minted = KeyPrefix::default().mint().map_err(failed)?;
    let row = NewRow::for_key(spec, &minted, options).map_err(failed)?;
    // Others may use it before its creation is acknowledged.
    let name = Name::of_hash(minted.raw.hash());
    let lookup = name.lookup.clone();
    world.names.push(name);
    Ok((Request::Insert(Box::new(row)), Ask::Insert { lookup }))
}

fn move_database_clock(world: &mut World) -> Checked {
    let periods = |world: &World| -> Vec<i64> {
        world.db.keys.iter().map(|key| key.own_view(world.db.now).period).collect()
    };
    let before = periods(world);
    world.db.now += world.random.pick(&[1, 30, 61, 1_800, 4_000, 86_400, 700_000]);
    world.trace(|| format!("the database's clock is at {}", world.db.now));
    if periods(world) != before {
        world.promises.coverage.count("database", "a period ended");
    }
    world.promises.check_books(&world.db)
}

fn cancel(world: &mut World) -> Checked {
    let open = world.promises.open_calls();
    if !open.is_empty() {
        let (process, ticket) = world.random.pick(&open);
        if let Some(process) = world.processes.iter_mut().find(|p| p.id == process) {
            process.engine.cancel(ticket);
        }
        world.trace(|| format!("the caller of {ticket:?} of process {process} is gone"));
        world.promises.cancelled(process, ticket);
    }
    Ok(())
}

/// A process is killed; what it has sent may still arrive. Another takes its place.
fn restart(world: &mut World) -> Checked {
    let at = world.random.below(world.processes.len());
    let fresh = world.start();
    let gone = std::mem::replace(&mut world.processes[at], fresh).id;
    world.trace(|| format!("process {gone} is killed"));
    let random = &mut world.random;
    world.messages.retain(|message| message.process() != gone || random.chance(50));
    world.promises.process_gone(gone);
    world.promises.coverage.count("engine", "restarted");
    Ok(())
}

fn charge_as_another_client(world: &mut World) -> Checked {
    let lookup = &world.names[world.random.below(world.names.len())].lookup.clone();
    let cents = world.random.between(1, 60);
    if world.db.charge_as_original(lookup, cents) {
        world.trace(|| format!("another client charges {lookup} {cents} cents"));
        world.promises.coverage.count("database", "charged by another client");
        world.promises.foreign_charge(&world.db, lookup, cents * MICROCENTS_PER_CENT)?;
    }
    Ok(())
}

/// After the last fault a call succeeds, without a restart.
fn everything_works_again(world: &mut World) -> Checked {
    world.promises.faults_are_over = true;
    let name = world.names[0].clone();
    for at in 0..world.processes.len() {
        let ask = Ask::Validate { lookup: name.lookup.clone() };
        world.submit(at, Request::Validate(name.credential.clone()), ask)?;
        if let Some(cost) = new_cost(world, &name.lookup) {
            let ask = Ask::Charge { lookup: name.lookup.clone(), cost };
            world.submit(at, Request::Charge(name.credential.clone(), Cost::Microcents(cost)), ask)?;
        }
    }
    world.come_to_rest()
}

fn close(world: &mut World) -> Checked {
    let name = world.names[0].clone();
    for at in 0..world.processes.len() {
        world.processes[at].engine.close();
        let ask = Ask::Validate { lookup: name.lookup.clone() };
        if world.submit(at, Request::Validate(name.credential.clone()), ask)?.is_some() {
            return Err("a closed engine takes a request".to_owned());
        }
    }
    world.come_to_rest()
}
