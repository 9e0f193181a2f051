//! A limit on signups per client address. The database counts them; where it cannot, each process counts for itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use super::response::whole_seconds;
use crate::engine::SignupCount;

/// How many signups one client address may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// The most in one window; 0 refuses all.
    pub max: u32,
    /// The window's length, from a client's first signup on.
    pub window_seconds: u32,
}

impl RateLimit {
    /// So many in a window of so many seconds.
    pub fn new(max: u32, window_seconds: u32) -> Self {
        RateLimit { max, window_seconds }
    }
}

/// Addresses that are remembered at once. More than that share one count, so that a flood of addresses neither takes
/// more memory nor lets anyone through.
const MOST_ADDRESSES: usize = 10_000;

/// So long a refusal by the database is repeated without asking it again: a flood from one address costs a statement a
/// minute, and one whose row somebody deletes waits no longer.
const REMEMBERED: TimeDelta = TimeDelta::minutes(1);

#[derive(Debug)]
pub(super) struct Limiter {
    limit: RateLimit,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    windows: HashMap<Client, Window>,
    /// Whom the database has refused lately.
    refused: HashMap<Client, Refused>,
    /// When closed windows were last thrown out.
    swept: DateTime<Utc>,
}

/// Whom a count is for. Who has one IPv6 address has its whole /64.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Client {
    Ip(IpAddr),
    Named(String),
    /// All of whom no more is known, or for whom there is no room.
    Others,
}

#[derive(Debug)]
struct Window {
    started: DateTime<Utc>,
    count: u32,
}

#[derive(Debug)]
struct Refused {
    at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
}

impl Limiter {
    pub(super) fn new(limit: RateLimit) -> Self {
        Limiter { limit, counts: Mutex::default() }
    }

    /// What the database is asked to count.
    pub(super) fn count(&self, address: Option<&str>) -> SignupCount {
        let RateLimit { max, window_seconds } = self.limit;
        SignupCount::new(Client::of(address).hash(window_seconds), max, window_seconds)
    }

    /// The seconds to wait of a client that the database has refused lately, or refuses always.
    pub(super) fn remembers(&self, address: Option<&str>, now: DateTime<Utc>) -> Result<(), i64> {
        if self.limit.max == 0 {
            return Err(self.limit.window_seconds.into());
        }
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = counts.refused.get(&Client::of(address));
        let is_fresh =
            |refused: &&Refused| refused.at <= now && now - refused.at < REMEMBERED && now < refused.ends_at;
        refused.filter(is_fresh).map_or(Ok(()), |refused| Err(whole_seconds(refused.ends_at - now)))
    }

    /// The database has refused a client, for so many seconds.
    pub(super) fn remember(&self, address: Option<&str>, seconds: u32, now: DateTime<Utc>) {
        let refused = Refused { at: now, ends_at: now + TimeDelta::seconds(seconds.into()) };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let client = Client::of(address);
        if counts.refused.len() >= MOST_ADDRESSES && !counts.refused.contains_key(&client) {
            // The database knows them all.
            counts.refused.clear();
        }
        counts.refused.insert(client, refused);
    }

    /// Counts one signup in this process; the seconds to wait if it is one too many.
    pub(super) fn admit(&self, address: Option<&str>, now: DateTime<Utc>) -> Result<(), i64> {
        let length = TimeDelta::seconds(i64::from(self.limit.window_seconds));
        // A window that lies in the future is of a clock that was put back since.
        let is_open = |window: &Window| window.started <= now && now - window.started < length;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Counts { windows, swept, .. } = &mut *counts;
        let mut client = Client::of(address);
        if !windows.contains_key(&client) && windows.len() >= MOST_ADDRESSES {
            // Once a second at most: a flood must not make each signup walk through all of them.
            if now.signed_duration_since(*swept).abs() >= TimeDelta::seconds(1) {
                windows.retain(|_, window| is_open(window));
                *swept = now;
            }
            if windows.len() >= MOST_ADDRESSES {
                client = Client::Others;
            }
        }
        let window = windows.entry(client).or_insert(Window { started: now, count: 0 });
        if !is_open(window) {
            *window = Window { started: now, count: 0 };
        }
        if window.count >= self.limit.max {
            return Err(whole_seconds(length - (now - window.started)));
        }
        window.count += 1;
        Ok(())
    }
}

impl Client {
    fn of(address: Option<&str>) -> Self {
        const LONGEST_NAME: usize = 100;
        let Some(address) = address.filter(|a| !a.is_empty() && a.len() <= LONGEST_NAME) else {
            return Client::Others;
        };
        match address.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(IpAddr::V6(ip)) => {
                let [a, b, c, d, ..] = ip.segments();
                Client::Ip(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
            Ok(ip) => Client::Ip(ip),
            Err(_) => Client::Named(address.to_owned()),
        }
    }

    /// What the table has of a client. Windows of other lengths are others.
    fn hash(&self, window_seconds: u32) -> String {
        let text = match self {
            Client::Ip(ip) => format!("ip {ip}"),
            Client::Named(name) => format!("name {name}"),
            Client::Others => "others".to_owned(),
        };
        hex::encode(Sha256::digest(format!("agentkey signup {window_seconds} {text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_764_000_000 + seconds, 0).unwrap()
    }

    fn limiter(max: u32) -> Limiter {
        Limiter::new(RateLimit { max, window_seconds: 60 })
    }

    #[test]
    fn a_client_has_so_many_in_a_window_and_then_again() {
        let limiter = limiter(2);
        assert_eq!(limiter.admit(Some("1.2.3.4"), at(0)), Ok(()));
        assert_eq!(limiter.admit(Some("1.2.3.4"), at(10)), Ok(()));
        assert_eq!(limiter.admit(Some("1.2.3.4"), at(20)), Err(40));
        assert_eq!(limiter.admit(Some("1.2.3.5"), at(20)), Ok(()));
        assert_eq!(limiter.admit(Some("1.2.3.4"), at(59)), Err(1));
        assert_eq!(limiter.admit(Some("1.2.3.4"), at(60)), Ok(()));
    }

    #[test]
    fn spellings_of_one_client_share_a_count() {
        for (one, other) in
            [("1.2.3.4", "::ffff:1.2.3.4"), ("2001:db8::1", "2001:db8:0:0:ffff::2"), ("unix:", "unix:")]
        {
            let limiter = limiter(1);
            assert_eq!(limiter.admit(Some(one), at(0)), Ok(()));
            assert_eq!(limiter.admit(Some(other), at(0)), Err(60), "{one} {other}");
        }
        let limiter = limiter(1);
        assert_eq!(limiter.admit(Some("2001:db8::1"), at(0)), Ok(()));
        assert_eq!(limiter.admit(Some("2001:db8:0:1::1"), at(0)), Ok(()));
        assert_eq!(limiter.admit(None, at(0)), Ok(()));
        assert_eq!(limiter.admit(Some(""), at(0)), Err(60));
        assert_eq!(limiter.admit(Some(&"x".repeat(5000)), at(0)), Err(60));
    }

    #[test]
    fn none_is_none_and_a_clock_put_back_locks_nobody_out() {
        assert_eq!(limiter(0).admit(Some("1.2.3.4"), at(0)), Err(60));
        let limiter = limiter(1);
        assert_eq!(limiter.admit(Some("1.2.3.4"), at(3_456_000)), Ok(()));
        assert_eq!(limiter.admit(Some("1.2.3.4"), at(0)), Ok(()));
        assert_eq!(limiter.admit(Some("1.2.3.4"), at(0)), Err(60));
    }

    #[test]
    fn a_refusal_of_the_database_is_remembered_for_a_minute_at_most() {
        let limiter = limiter(1);
        assert_eq!(limiter.remembers(Some("1.2.3.4"), at(0)), Ok(()));
        limiter.remember(Some("1.2.3.4"), 600, at(0));
        assert_eq!(limiter.remembers(Some("::ffff:1.2.3.4"), at(59)), Err(541));
        assert_eq!(limiter.remembers(Some("1.2.3.5"), at(59)), Ok(()));
        assert_eq!(limiter.remembers(Some("1.2.3.4"), at(60)), Ok(()));
        assert_eq!(limiter.remembers(Some("1.2.3.4"), at(-1)), Ok(()), "a clock put back locks nobody out");
        limiter.remember(Some("1.2.3.4"), 5, at(100));
        assert_eq!(limiter.remembers(Some("1.2.3.4"), at(105)), Ok(()));
        for n in 0..25_000u32 {
            limiter.remember(Some(&format!("n{n}")), 600, at(100));
        }
        assert!(limiter.counts.lock().unwrap().refused.len() <= MOST_ADDRESSES);
        assert_eq!(super::Limiter::new(RateLimit::new(0, 60)).remembers(None, at(0)), Err(60));
    }

    #[test]
    fn what_is_counted_names_no_address() {
        let count = |address, window_seconds| Limiter::new(RateLimit::new(3, window_seconds)).count(address);
        let one = count(Some("1.2.3.4"), 60);
        assert_eq!((one.max, one.window_seconds, one.client.len()), (3, 60, 64));
        assert!(one.client.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
        assert_eq!(one, count(Some("::ffff:1.2.3.4"), 60));
        assert_eq!(count(Some("2001:db8::1"), 60), count(Some("2001:db8::ffff:1"), 60));
        let long = "x".repeat(5000);
        assert_eq!(count(None, 60), count(Some(&long), 60));
        let others = [
            count(Some("1.2.3.5"), 60),
            count(Some("1.2.3.4"), 61),
            count(Some("2001:db8:0:1::"), 60),
            count(None, 60),
        ];
        assert!(others.iter().all(|other| other.client != one.client));
        let Client::Named(name) = Client::of(Some("a\0b")) else { panic!("a name") };
        assert_eq!(name, "a\0b");
        assert_eq!(count(Some("a\0b"), 60).client.len(), 64, "no odd address reaches the database");
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_frees_nobody() {
        let limiter = limiter(1);
        assert_eq!(limiter.admit(Some("1.2.3.4"), at(0)), Ok(()));
        let flood = |seconds| {
            (0..20_000u32).filter(|n| limiter.admit(Some(&format!("n{n}")), at(seconds)).is_ok()).count()
        };
        assert_eq!(flood(1), MOST_ADDRESSES);
        assert!(limiter.counts.lock().unwrap().windows.len() <= MOST_ADDRESSES + 1);
        assert_eq!(limiter.admit(Some("1.2.3.4"), at(2)), Err(58));
        assert_eq!(limiter.admit(Some("5.6.7.8"), at(2)), Err(59));
        assert_eq!(limiter.admit(Some("5.6.7.8"), at(61)), Ok(()));
    }
}
