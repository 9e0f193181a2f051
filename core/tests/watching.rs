//! What a client shows of itself: counters, spans, faults that nobody waits for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use agentkey::{AgentKey, CreateKey};
use sqlx::Executor;
use support::{TestDatabase, eventually};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Everything that a subscriber hears: the fields of spans by their ids, and events.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    spans: Vec<BTreeMap<String, String>>,
    events: Vec<BTreeMap<String, String>>,
}

struct Fields<'f>(&'f mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").unwrap();
        self.0.insert(field.name().to_owned(), text.trim_matches('"').to_owned());
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "agentkey"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = BTreeMap::from([("span".to_owned(), span.metadata().name().to_owned())]);
        span.record(&mut Fields(&mut fields));
        let mut heard = self.0.lock().unwrap();
        heard.spans.push(fields);
        Id::from_u64(heard.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut heard = self.0.lock().unwrap();
        let place = usize::try_from(span.into_u64() - 1).unwrap();
        values.record(&mut Fields(&mut heard.spans[place]));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        self.0.lock().unwrap().events.push(fields);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Heard {
    /// Spans with such a field.
    fn spans(&self, name: &str, value: &str) -> Vec<BTreeMap<String, String>> {
        let heard = self.0.lock().unwrap();
        heard.spans.iter().filter(|span| span.get(name).is_some_and(|v| v == value)).cloned().collect()
    }

    fn has_event(&self, message: &str) -> bool {
        let heard = self.0.lock().unwrap();
        heard.events.iter().any(|event| event.get("message").is_some_and(|m| m.contains(message)))
    }
}

/// One test: a process has one subscriber.
#[tokio::test(flavor = "multi_thread")]
async fn calls_statements_and_faults_are_heard_of() {
    let heard = Heard::default();
    tracing::subscriber::set_global_default(heard.clone()).unwrap();
    let db = TestDatabase::create().await;
    let told = Arc::new(Mutex::new(Vec::<String>::new()));
    let tells = Arc::clone(&told);
    let ak = AgentKey::builder()
        .touch_interval_seconds(0)
        .on_error(move |message| tells.lock().unwrap().push(message.to_owned()))
        .connect(&db.url)
        .await
        .unwrap();
    ak.migrate().await.unwrap();
    let created = ak.create(CreateKey::new("acct").budget_cents(10)).await.unwrap();
    let key = created.key.expose();

    let grant = ak.validate(key).await.unwrap().unwrap();
    let span = &heard.spans("otel.name", "agentkey validate")[0];
    for (name, value) in [
        ("span", "agentkey.call"),
        ("otel.kind", "client"),
        ("db.system.name", "postgresql"),
        ("agentkey.operation", "validate"),
        ("agentkey.outcome", "success"),
        ("agentkey.key.id", &grant.id.to_string()),
    ] {
        assert_eq!(span.get(name).map(String::as_str), Some(value), "{name} of {span:?}");
    }
    assert!(ak.track_usage(key, 11).await.unwrap().is_err());
    let span = &heard.spans("agentkey.operation", "track_usage")[0];
    assert_eq!(span["agentkey.refusal.reason"], "budget_exceeded");
    assert!(!span.contains_key("error.type") && !span.contains_key("otel.status_code"));
    let statement = &heard.spans("agentkey.statement.kind", "ValidateOne")[0];
    assert_eq!(statement["db.response.returned_rows"], "1");

    // A locked row is looked at again.
    let mut holder = db.session().await;
    holder.execute("BEGIN; SELECT 1 FROM sdk_api_keys FOR UPDATE").await.unwrap();
    let waiting = tokio::spawn({
        let (ak, key) = (ak.clone(), key.to_owned());
        async move { ak.track_usage(&key, 1).await }
    });
    eventually("the row is found locked", async || ak.stats().busy_rows > 0).await;
    holder.execute("ROLLBACK").await.unwrap();
    assert!(waiting.await.unwrap().unwrap().is_ok());
    assert!(heard.has_event("somebody else has a row locked"));

    // Nobody waits for last_used_at: what keeps it from being written is told.
    db.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE OF last_used_at ON sdk_api_keys FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    eventually("the touch fails", async || {
        ak.validate(key).await.unwrap().unwrap();
        ak.stats().failed_touches == 1
    })
    .await;
    eventually("it is told", async || !told.lock().unwrap().is_empty()).await;
    let told = told.lock().unwrap().clone();
    assert!(told.len() == 1 && told[0].starts_with("last_used_at was not written"), "{told:?}");
    assert!(heard.has_event("last_used_at was not written"));

    // No raw key is anywhere.
    let everything = {
        let heard = heard.0.lock().unwrap();
        format!("{:?} {:?}", heard.spans, heard.events)
    };
    assert!(!everything.contains(key), "a raw key was traced");
    ak.close().await;
    db.drop().await;
}
