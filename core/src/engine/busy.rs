//! Rows that somebody else has locked, and the keys that need them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A row that was found locked is looked at again after this time, then after longer ones.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const MOST_DOUBLINGS: u32 = 6;
/// After so many looks in a row a statement waits for it. Each costs little, for it shares a statement; that one does
/// not. Most rows are locked for a moment only, by another lane or another process.
pub(super) const LOOKS: u32 = 4;
/// So long a row that had to be waited for is waited for unasked, and twice as long each time that looks were in vain
/// soon after.
pub(super) const FIRST_HOT: Duration = Duration::from_millis(50);
const MOST_HOT: Duration = Duration::from_secs(10);
/// So many keys of such rows are remembered.
const MAX_HOT: usize = 10_000;

/// The busy rows of a lane, by id.
#[derive(Debug, Default)]
pub(super) struct BusyRows {
    rows: BTreeMap<Arc<str>, BusyRow>,
    /// Keys whose row had to be waited for lately.
    hot: HashMap<Arc<str>, Hot>,
    /// The driver's clock at the last poll.
    now: Duration,
}

#[derive(Debug)]
struct Hot {
    row: Arc<str>,
    until: Duration,
    span: Duration,
}

#[derive(Debug, Default)]
struct BusyRow {
    /// The keys that need it and are in no statement.
    keys: Vec<Arc<str>>,
    /// Looks were in vain.
    has_to_wait: bool,
    is_waited_for: bool,
    /// When its keys are sent among others again, if no statement waits for it until then.
    again_at: Duration,
}

impl BusyRow {
    fn has_pause(&self) -> bool {
        !self.is_waited_for && !self.keys.is_empty()
    }
}

impl BusyRows {
    /// A key needs a row that was found locked, at so many looks in a row.
    pub(super) fn park(&mut self, name: &Arc<str>, row: &str, looks: u32, now: Duration) {
        let row: Arc<str> = Arc::from(row);
        let busy = self.rows.entry(Arc::clone(&row)).or_default();
        busy.again_at = now + FIRST_LOOK * (1 << (looks / 2).min(MOST_DOUBLINGS));
        busy.keys.push(Arc::clone(name));
        if looks < LOOKS {
            return;
        }
        busy.has_to_wait = true;
        if self.hot.len() >= MAX_HOT {
            self.hot.clear();
        }
        let before = self.hot.get(name).filter(|hot| now < hot.until + hot.span);
        let span = before.map_or(FIRST_HOT, |hot| MOST_HOT.min(hot.span * 2));
        self.hot.insert(Arc::clone(name), Hot { row, until: now + span, span });
    }

    /// Parks a key whose row had to be waited for lately. Whether it had.
    pub(super) fn park_hot(&mut self, name: &Arc<str>) -> bool {
        let Some(hot) = self.hot.get(name).filter(|hot| hot.until > self.now) else { return false };
        let busy = self.rows.entry(Arc::clone(&hot.row)).or_insert_with(|| BusyRow {
            again_at: self.now + FIRST_LOOK * (1 << MOST_DOUBLINGS),
            ..BusyRow::default()
        });
        busy.has_to_wait = true;
        busy.keys.push(Arc::clone(name));
        true
    }

    /// A row for a statement to wait for, with the keys that need it: give back those that it does not take.
    pub(super) fn next_to_wait_for(&mut self) -> Option<(Arc<str>, Vec<Arc<str>>)> {
        let (row, busy) = self.rows.iter_mut().find(|(_, busy)| busy.has_to_wait && busy.has_pause())?;
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
