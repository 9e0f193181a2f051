//! Rows that somebody else has locked, and the keys that need them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A row that was found locked is looked at again after this time, then after longer ones.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const MOST_DOUBLINGS: u32 = 6;
const LONGEST_LOOK: Duration = Duration::from_millis(1 << MOST_DOUBLINGS);
/// So much longer if there is nothing else to ask, so that several are looked at together.
const SLACK: Duration = Duration::from_millis(2);
/// After so many looks in a row a statement waits for it. Each costs little, for it shares a statement; that one does
/// not. Most rows are locked for a moment only, by another lane or another process.
pub(super) const LOOKS: u32 = 4;
/// With so many requests that need one row, the statement that waits for it pays at once.
pub(super) const MANY: usize = 16;
/// So long a row that was needed by many and found locked is waited for unasked, by all who needed it lately.
pub(super) const HOT: Duration = Duration::from_secs(1);
/// So long after a row was found locked others are expected.
const CONTENDED: Duration = Duration::from_secs(1);
/// So many keys and rows are remembered.
const MAX_REMEMBERED: usize = 10_000;

/// How a statement of one row's goes about somebody else's lock: it looks a few times, then it waits, if there is room for
/// one more that does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    looks: u32,
    /// Whether the statement under way waits for the row.
    pub(super) is_waiting: bool,
}

impl Look {
    /// Says of the next statement whether it waits.
    pub(super) fn prepare(&mut self, has_room: bool) {
        self.is_waiting = has_room && self.looks >= LOOKS;
    }

    /// The row was locked. How long until the next look.
    pub(super) fn in_vain(&mut self) -> Duration {
        self.looks += 1;
        FIRST_LOOK * (1 << self.looks.min(MOST_DOUBLINGS))
    }
}

/// The busy rows of a lane, by id.
#[derive(Debug, Default)]
pub(super) struct BusyRows {
    rows: BTreeMap<Arc<str>, BusyRow>,
    /// The row that kept a key waiting last.
    needed: HashMap<Arc<str>, Arc<str>>,
    /// Rows that many needed, and until when that counts.
    hot: HashMap<Arc<str>, Duration>,
    /// Keys that are not sent before a time, for another reason than a locked row.
    paused: Vec<(Duration, Arc<str>)>,
    contended_until: Duration,
    /// The driver's clock at the last poll.
    now: Duration,
}

#[derive(Debug, Default)]
struct BusyRow {
    /// The keys that need it and are in no statement.
    keys: Vec<Arc<str>>,
    /// Looks were in vain, or it is needed by many.
    has_to_wait: bool,
    /// How many requests the keys had when they were parked.
    requests: usize,
    is_waited_for: bool,
    /// When its keys are sent among others again, if no statement waits for it until then.
    again_at: Duration,
}

impl BusyRow {
    fn has_pause(&self) -> bool {
        !self.is_waited_for && !self.keys.is_empty()
    }
}

fn remember<T>(known: &mut HashMap<Arc<str>, T>, name: &Arc<str>, value: T) {
    if known.len() >= MAX_REMEMBERED && !known.contains_key(name) {
        known.clear();
    }
    known.insert(Arc::clone(name), value);
}

impl BusyRows {
    /// A key with so many requests needs a row that was found locked, at so many looks in a row.
    pub(super) fn park(&mut self, name: &Arc<str>, requests: usize, row: &str, looks: u32, now: Duration) {
        self.contended_until = now + CONTENDED;
        let row: Arc<str> = Arc::from(row);
        let busy = self.rows.entry(Arc::clone(&row)).or_default();
        busy.again_at = now + FIRST_LOOK * (1 << (looks / 2).min(MOST_DOUBLINGS));
        busy.keys.push(Arc::clone(name));
        busy.requests += requests;
        busy.has_to_wait |= looks >= LOOKS;
        if busy.requests >= MANY {
            busy.has_to_wait = true;
            remember(&mut self.hot, &row, now + HOT);
        }
        remember(&mut self.needed, name, row);
    }

    /// A key is not sent again before a time.
    pub(super) fn pause_key(&mut self, name: &Arc<str>, until: Duration) {
        self.paused.push((until, Arc::clone(name)));
    }

    /// Whether no key is kept waiting.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.paused.is_empty()
    }

    /// Whether a row was found locked lately.
    pub(super) fn are_contended(&self) -> bool {
        self.now < self.contended_until
    }

    /// Parks a key whose row many had to wait for lately. Whether they had.
    pub(super) fn park_hot(&mut self, name: &Arc<str>) -> bool {
        let Some(row) = self.needed.get(name) else { return false };
        if self.hot.get(row).is_none_or(|until| *until <= self.now) {
            return false;
        }
        let busy = self
            .rows
            .entry(Arc::clone(row))
            .or_insert_with(|| BusyRow { again_at: self.now + LONGEST_LOOK, ..BusyRow::default() });
        busy.has_to_wait = true;
        busy.keys.push(Arc::clone(name));
        true
    }

    /// A row for a statement to wait for, with the keys that need it: give back those that it does not take.
    pub(super) fn next_to_wait_for(&mut self) -> Option<(Arc<str>, Vec<Arc<str>>)> {
        let (row, busy) = self.rows.iter_mut().find(|(_, busy)| busy.has_to_wait && busy.has_pause())?;
        busy.is_waited_for = true;
        busy.requests = 0;
        Some((Arc::clone(row), std::mem::take(&mut busy.keys)))
    }

    /// Keys that still need a row which a statement waits for.
    pub(super) fn give_back(&mut self, row: &Arc<str>, keys: Vec<Arc<str>>) {
        if let Some(busy) = self.rows.get_mut(row) {
            busy.keys.extend(keys);
        }
    }

    /// No statement waits for a row any more.
    pub(super) fn waited(&mut self, row: &Arc<str>) {
        if let Some(busy) = self.rows.get_mut(row) {
            busy.is_waited_for = false;
            // The next statement may wait for it at once.
            busy.again_at = self.now + LONGEST_LOOK;
        }
        self.drop_empty();
    }

    /// Forgets keys that want nothing any more.
    pub(super) fn retain(&mut self, wants: impl Fn(&Arc<str>) -> bool) {
        self.paused.retain(|(_, name)| wants(name));
        self.rows.values_mut().for_each(|busy| busy.keys.retain(&wants));
        self.drop_empty();
    }

    /// Takes the keys whose pause is over, and those whose rows nobody waits for and that are to be looked at again.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<Arc<str>> {
        self.now = now;
        if self.is_empty() {
            return Vec::new();
        }
        let mut taken: Vec<Arc<str>> =
            self.paused.extract_if(.., |(until, _)| *until <= now).map(|(_, name)| name).collect();
        let due = self.rows.values_mut().filter(|busy| busy.has_pause() && busy.again_at <= now);
        taken.extend(due.flat_map(|busy| {
            busy.requests = 0;
            std::mem::take(&mut busy.keys)
        }));
        taken
    }

    /// When the next key is sent again. For a row that is looked at again that is later, if no other statement comes
    /// before.
    pub(super) fn pause(&self) -> Option<Duration> {
        let looks = self.rows.values().filter(|busy| busy.has_pause()).map(|busy| busy.again_at + SLACK);
        looks.chain(self.paused.iter().map(|(until, _)| *until)).min()
    }

    fn drop_empty(&mut self) {
        self.rows.retain(|_, busy| busy.is_waited_for || !busy.keys.is_empty());
    }
}
