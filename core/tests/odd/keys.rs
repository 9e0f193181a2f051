//! The keys: good ones, in trees, and odd ones.

use agentkey::{AgentKey, CreateKey, KeyId};

use super::support::TestDatabase;
use super::{GOOD, World};

pub const EMOJI: &str = "🔑";

/// What is odd about a key: values of its row. `{id}` is the key itself, `{parent}` its parent, a good key. Those with a parent
/// are its children.
pub const VALUES: &[&str] = &[
    "budget_cents = 9223372036854775807, budget_used_cents = 9223372036854775807",
    "budget_cents = -9223372036854775808",
    "budget_used_cents = -9223372036854775808, budget_used_microcents = -999999",
    "budget_reserved_cents = 9223372036854775807, budget_reserved_microcents = 2147483647",
    "budget_reserved_cents = -9223372036854775808, budget_used_microcents = 2147483647",
    "budget_used_cents = 4000000000000, budget_cents = NULL",
    "expires_at = 'infinity', last_used_at = 'infinity', created_at = '-infinity'",
    "expires_at = '294276-12-31 23:59:59.999999+00', last_used_at = '294276-12-31+00'",
    "expires_at = '4713-01-02+00 BC'",
    "revoked_at = 'infinity'",
    "budget_period = 'month', budget_reset_at = '4713-01-02+00 BC', budget_anchor_at = '294276-12-31+00'",
    "budget_period = 'year', budget_reset_at = now(), budget_anchor_at = '4713-01-02+00 BC'",
    "budget_period = 'week', budget_reset_at = '-infinity', budget_anchor_at = 'infinity'",
    "budget_period = 'fortnight', budget_reset_at = now()",
    "budget_period = repeat('day', 30000), name = repeat('\"\\,(', 30000), delegated_by = repeat('é', 50000)",
    "scopes = '{NULL}'",
    "scopes = '{{a,b},{c,d}}'",
    "scopes = ARRAY[repeat('x', 100000), '\"', '']",
    "ancestor_ids = ARRAY[{id}]",
    "ancestor_ids = ARRAY[{parent}, {id}]",
    "ancestor_ids = ARRAY[{parent}, {parent}]",
    "ancestor_ids = ARRAY[{parent}, NULL]",
    "ancestor_ids = ARRAY[ARRAY[{parent}, {parent}]]",
    "ancestor_ids = array_fill({parent}, ARRAY[5000])",
    "ancestor_ids = ARRAY[{parent}, 987654321]",
    "budget_used_cents = 9223372036854775807, parent_id = {parent}",
    "budget_cents = -5, budget_period = 'hour', budget_reset_at = '0001-01-01', parent_id = {parent}",
    // A trigger raises for it.
    "account_id = 'raises'",
    "account_id = 'raises', parent_id = {parent}",
];

/// A key, and the good ones whose budgets a call of it draws on.
pub struct Key {
    pub id: KeyId,
    pub secret: String,
    pub is_subject: bool,
    pub chain: Vec<usize>,
    pub odd: Option<&'static str>,
}

/// Roots, their children and grandchildren; some are found by subjects.
pub async fn good_keys(ak: &AgentKey, db: &TestDatabase, is_utf8: bool) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for n in 0..GOOD {
        let parent = (n % 5 > 2).then(|| &keys[n - 3]);
        let mut chain = vec![n];
        chain.extend(parent.iter().flat_map(|parent| &parent.chain));
        let mut spec = CreateKey::new("good").budget_cents(if n % 4 == 0 { 2_000 } else { 1_000_000_000 });
        spec = match parent {
            Some(parent) => spec.parent(parent.id.clone()),
            None => spec,
        };
        let key = if n % 7 == 0 {
            let secret = format!("größe {n}{}", if is_utf8 { EMOJI } else { "" });
            ak.ensure_subject(&secret, spec).await.unwrap();
            let id = format!("SELECT id FROM sdk_api_keys WHERE external_subject = '{secret}'");
            Key { id: db.number(&id).await.into(), secret, is_subject: true, chain, odd: None }
        } else {
            let created = ak.create(spec).await.unwrap();
            let secret = created.key.expose().to_owned();
            Key { id: created.id, secret, is_subject: false, chain, odd: None }
        };
        keys.push(key);
    }
    keys
}

pub async fn odd_key(world: &World, db: &TestDatabase, values: &'static str, parent: usize) -> Key {
    let parent = &world.good[parent];
    let is_child = values.contains("{parent}");
    let spec = CreateKey::new("odd");
    let created = match is_child {
        true => world.ak.create(spec.parent(parent.id.clone())).await.unwrap(),
        false => world.ak.create(spec).await.unwrap(),
    };
    let set = values.replace("{id}", &created.id.to_string()).replace("{parent}", &parent.id.to_string());
    db.run(&format!("UPDATE sdk_api_keys SET {set} WHERE id = {}", created.id)).await;
    // An entry that nobody can read, at a time that nobody knows.
    db.run(&format!(
        "INSERT INTO sdk_api_keys_events (key_id, kind, at, metadata)
         VALUES ({}, 'charge', 'infinity', (repeat('[', 500) || repeat(']', 500))::jsonb)",
        created.id
    ))
    .await;
    let chain = if is_child { parent.chain.clone() } else { Vec::new() };
    let secret = created.key.expose().to_owned();
    Key { id: created.id, secret, is_subject: false, chain, odd: Some(values) }
}
