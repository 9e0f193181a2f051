//! Rows that somebody else has locked, and the keys that need them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A row that no statement may wait for is looked at again after this time, and then after twice as long.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const MOST_DOUBLINGS: u32 = 6;
/// So long a row that was locked is waited for unasked: among others its key would only find it locked again.
const HOT: Duration = Duration::from_secs(10);
/// So many keys of such rows are remembered.
const MAX_HOT: usize = 10_000;

/// The busy rows of a lane, by id.
#[derive(Debug, Default)]
pub(super) struct BusyRows {
    rows: BTreeMap<Arc<str>, BusyRow>,
    /// Keys that needed a busy row lately: which one, and until when that counts.
    hot: HashMap<Arc<str>, (Arc<str>, Duration)>,
    /// The driver's clock at the last poll.
    now: Duration,
}

#[derive(Debug, Default)]
struct BusyRow {
    /// The keys that need it and are in no statement.
    keys: Vec<Arc<str>>,
    is_waited_for: bool,
    /// How often it was found locked.
    times: u32,
    /// When its keys are sent among others again, if no statement waits for it until then.
    again_at: Duration,
}

impl BusyRow {
    fn has_pause(&self) -> bool {
        !self.is_waited_for && !self.keys.is_empty()
    }
}

impl BusyRows {
    /// A key needs a row that was found locked.
    pub(super) fn park(&mut self, name: &Arc<str>, row: &str, now: Duration) {
        let row: Arc<str> = Arc::from(row);
        let busy = self.rows.entry(Arc::clone(&row)).or_default();
        busy.again_at = now + FIRST_LOOK * (1 << busy.times.min(MOST_DOUBLINGS));
        busy.times += 1;
        busy.keys.push(Arc::clone(name));
        if self.hot.len() >= MAX_HOT {
            self.hot.clear();
        }
        self.hot.insert(Arc::clone(name), (row, now + HOT));
    }

    /// Parks a key whose row was found locked lately. Whether it was.
    pub(super) fn park_hot(&mut self, name: &Arc<str>) -> bool {
        let Some((row, _)) = self.hot.get(name).filter(|(_, until)| *until > self.now) else { return false };
        let busy = self.rows.entry(Arc::clone(row)).or_insert_with(|| BusyRow {
            again_at: self.now + FIRST_LOOK * (1 << MOST_DOUBLINGS),
            ..BusyRow::default()
        });
        busy.keys.push(Arc::clone(name));
        true
    }

    /// A row for a statement to wait for, with the keys that need it: give back those that it does not take.
    pub(super) fn next_to_wait_for(&mut self) -> Option<(Arc<str>, Vec<Arc<str>>)> {
        let (row, busy) = self.rows.iter_mut().find(|(_, busy)| busy.has_pause())?;
        busy.is_waited_for = true;
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
            busy.times = 0;
        }
        self.drop_empty();
    }

    /// Forgets keys that want nothing any more.
    pub(super) fn retain(&mut self, wants: impl Fn(&Arc<str>) -> bool) {
        self.rows.values_mut().for_each(|busy| busy.keys.retain(&wants));
        self.drop_empty();
    }

    /// Takes the keys whose rows nobody waits for and that are to be looked at again.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<Arc<str>> {
        self.now = now;
        let due = self.rows.values_mut().filter(|busy| busy.has_pause() && busy.again_at <= now);
        due.flat_map(|busy| std::mem::take(&mut busy.keys)).collect()
    }

    /// When the next row is looked at again.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.rows.values().filter(|busy| busy.has_pause()).map(|busy| busy.again_at).min()
    }

    fn drop_empty(&mut self) {
        self.rows.retain(|_, busy| busy.is_waited_for || !busy.keys.is_empty());
    }
}
