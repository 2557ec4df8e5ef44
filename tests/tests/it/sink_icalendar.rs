//! Calendars, fetched as subscribers do and read by a library that is not ours.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rejoin::{ChangeHash, DocumentId};
use rejoin_adapters::delivery::{Action, Delivery, Fault, FaultClass, IdempotencyKey, Record};
use rejoin_adapters::sink::Sink;
use rejoin_adapters::sink::icalendar::{Icalendar, Options, path};
use rejoin_tests::processes::{Rejoin, RelayProcess, Running};
use rejoin_tests::python;
use rejoin_tests::requests::{Answer, request};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const SECRET: &str = "correct horse battery staple";

/// A sink that serves until it is dropped.
struct Served {
    sink: Arc<Icalendar>,
    serving: JoinHandle<()>,
    address: SocketAddr,
}

impl Served {
    async fn new(folder: &Path) -> Self {
        Self::with(folder, |_| {}).await
    }

    async fn with(folder: &Path, change: impl FnOnce(&mut Value)) -> Self {
        let sink = Arc::new(open(folder, change));
        let other = Arc::clone(&sink);
        let serving = tokio::spawn(async move { other.serve().await.unwrap() });
        let address = sink.bound().await;
        Self { sink, serving, address }
    }

    async fn apply(&self, deliveries: &[Delivery]) {
        let outcomes = self.sink.apply(deliveries).await;
        assert_eq!(outcomes, vec![Ok(()); deliveries.len()]);
    }

    async fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, &[]).await
    }

    async fn text(&self, feed: &str) -> String {
        let answer = self.get(&path(SECRET, feed)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "text/calendar; charset=utf-8");
        String::from_utf8(answer.body).unwrap()
    }

    /// A calendar as the library reads it.
    async fn calendar(&self, feed: &str) -> Value {
        let text = self.text(feed).await;
        let calendar: Value =
            serde_json::from_slice(&python::run("read_calendar.py", text.as_bytes())).unwrap();
        assert_eq!(calendar["errors"], json!([]));
        assert_eq!((&calendar["version"], &calendar["method"]), (&json!("2.0"), &json!(null)));
        calendar
    }

    /// The only appointment in a calendar.
    async fn event(&self, feed: &str) -> Value {
        let mut events = self.calendar(feed).await["events"].take();
        assert_eq!(events.as_array().map(Vec::len), Some(1), "{events}");
        events[0].take()
    }

    /// Ends it, and waits until nothing of it is left.
    async fn end(self) {
        let sink = Arc::downgrade(&self.sink);
        self.serving.abort();
        drop(self);
        until("the sink is gone", || sink.strong_count() == 0).await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: that does not come");
        tokio::task::yield_now().await;
    }
}

fn open(folder: &Path, change: impl FnOnce(&mut Value)) -> Icalendar {
    let secret = folder.join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let mut options = json!({
        "folder": "calendars",
        "listen": "127.0.0.1:0",
        "secret": format!("file:{}", secret.display()),
    });
    change(&mut options);
    let options: Options = serde_json::from_value(options).unwrap();
    Icalendar::open(options, folder).unwrap()
}

/// A time of now, as it is in deliveries.
fn now_ms() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

/// The `seq`th delivery about a document that is one row.
fn delivery(document: u8, seq: u64, action: Action) -> Delivery {
    Delivery {
        key: IdempotencyKey(format!("{document}-{seq}")),
        adapter: "termine".to_owned(),
        document: DocumentId([document; 16]),
        seq,
        previous: None,
        record: Record { name: "jobs".to_owned(), key: format!("W-{document}") },
        action,
        heads: vec![ChangeHash([seq as u8; 32])],
        mapping: "12ab".to_owned(),
        correlation: "c0ffee".to_owned(),
        enqueued_ms: now_ms() / 1000 * 1000 + seq * 1000,
        generation: 0,
    }
}

fn put(row: Value) -> Action {
    Action::Put(row.as_object().unwrap().clone())
}

/// A row with a time, in Anna's calendar.
fn row(change: impl FnOnce(&mut Value)) -> Action {
    let mut row = json!({
        "technician": "anna",
        "start": "2026-09-21T08:00:00+02:00",
        "end": "2026-09-21T09:30:00+02:00",
        "summary": "Boiler",
        "status": "booked",
    });
    change(&mut row);
    put(row)
}

#[tokio::test]
async fn a_row_is_an_appointment() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::with(folder.path(), |it| it["name"] = json!("Jobs")).await;
    let one = delivery(1, 7, row(|it| it["location"] = json!("Ulm, Münsterplatz 1; Hof")));
    served.apply(std::slice::from_ref(&one)).await;
    assert_eq!(served.calendar("anna").await["name"], "Jobs: anna");
    let event = served.event("anna").await;
    assert_eq!(event["uid"], "W-1.jobs@termine.rejoin");
    assert_eq!(event["start"], "2026-09-21T06:00:00+00:00");
    assert_eq!(event["end"], "2026-09-21T07:30:00+00:00");
    assert_eq!((&event["summary"], &event["status"]), (&json!("Boiler"), &json!("CONFIRMED")));
    assert_eq!(event["location"], "Ulm, Münsterplatz 1; Hof");
    assert_eq!((&event["sequence"], &event["description"]), (&json!(7), &json!(null)));
    let changed = chrono::DateTime::parse_from_rfc3339(event["changed"].as_str().unwrap());
    assert_eq!(changed.unwrap().timestamp_millis() as u64, one.enqueued_ms);
    assert_eq!(event["stamp"], event["changed"]);

    let as_ms = |it: &mut Value| {
        it["start"] = json!(1_790_000_000_123_u64);
        it["end"] = json!(null);
        it["status"] = json!("tentative");
    };
    served.apply(&[delivery(1, 8, row(as_ms))]).await;
    let event = served.event("anna").await;
    assert_eq!(event["start"], "2026-09-21T14:13:20+00:00");
    assert_eq!((&event["end"], &event["status"]), (&json!(null), &json!("TENTATIVE")));
}

#[tokio::test]
async fn a_new_time_or_state_is_the_same_appointment() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path()).await;
    served.apply(&[delivery(1, 1, row(|_| {}))]).await;
    let before = served.event("anna").await;
    let later = |it: &mut Value| {
        it["start"] = json!("2026-09-22T08:00:00Z");
        it["end"] = json!("2026-09-22T09:00:00Z");
    };
    served.apply(&[delivery(1, 2, row(later))]).await;
    let moved = served.event("anna").await;
    assert_eq!(
        (&moved["uid"], &moved["start"]),
        (&before["uid"], &json!("2026-09-22T08:00:00+00:00"))
    );
    assert!(moved["sequence"].as_u64() > before["sequence"].as_u64(), "{moved}");
    served.apply(&[delivery(1, 3, row(|it| it["status"] = json!("cancelled")))]).await;
    let cancelled = served.event("anna").await;
    assert_eq!((&cancelled["uid"], &cancelled["status"]), (&before["uid"], &json!("CANCELLED")));
    assert!(cancelled["sequence"].as_u64() > moved["sequence"].as_u64(), "{cancelled}");
    served.apply(&[delivery(1, 4, row(|_| {}))]).await;
    assert_eq!(served.event("anna").await["status"], "CONFIRMED");
}

#[tokio::test]
async fn who_gives_an_appointment_away_sees_it_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path()).await;
    served.apply(&[delivery(1, 1, row(|_| {}))]).await;
    served.apply(&[delivery(1, 2, row(|it| it["technician"] = json!("ben")))]).await;
    let (left, has) = (served.event("anna").await, served.event("ben").await);
    assert_eq!((&left["status"], &has["status"]), (&json!("CANCELLED"), &json!("CONFIRMED")));
    assert_eq!((&left["uid"], &left["sequence"]), (&has["uid"], &json!(2)));
    // What happens with it later is nothing to who had it.
    served.apply(&[delivery(1, 3, row(|it| it["technician"] = json!(["ben", "eva"])))]).await;
    assert_eq!(served.event("anna").await, left);
    assert_eq!(served.event("ben").await["sequence"], 3);
    assert_eq!(served.event("eva").await["sequence"], 3);
    // It comes back.
    served.apply(&[delivery(1, 4, row(|_| {}))]).await;
    assert_eq!(served.event("anna").await["status"], "CONFIRMED");
    assert_eq!(served.event("ben").await["status"], "CANCELLED");
    // Nobody is to do it, or nobody knows when.
    for (seq, field) in [(5, "technician"), (7, "start")] {
        served.apply(&[delivery(1, seq, row(|it| it[field] = json!(null)))]).await;
        assert_eq!(served.event("anna").await["status"], "CANCELLED", "without {field}");
        served.apply(&[delivery(1, seq + 1, row(|_| {}))]).await;
        assert_eq!(served.event("anna").await["status"], "CONFIRMED");
    }
}

#[tokio::test]
async fn a_row_that_is_gone_is_cancelled_and_forgotten_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path()).await;
    let deleted_ms = now_ms();
    for (document, gone) in [(1, Action::Delete), (2, Action::Mark { deleted_ms })] {
        let feed = format!("{document}");
        let of = |it: &mut Value| it["technician"] = json!(document);
        served.apply(&[delivery(document, 1, row(of))]).await;
        served.apply(&[delivery(document, 2, gone)]).await;
        let event = served.event(&feed).await;
        assert_eq!((&event["status"], &event["sequence"]), (&json!("CANCELLED"), &json!(2)));
    }
    let days = |days: u64| now_ms() - days * 24 * 3_600_000;
    for (document, age, left) in [(3, days(29), 1), (4, days(31), 0)] {
        let of = |it: &mut Value| it["technician"] = json!(document);
        let mut both = [delivery(document, 1, row(of)), delivery(document, 2, Action::Delete)];
        both.iter_mut().for_each(|it| it.enqueued_ms = age);
        served.apply(&both[..1]).await;
        served.apply(&both[1..]).await;
        let calendar = served.calendar(&document.to_string()).await;
        assert_eq!(calendar["events"].as_array().map(Vec::len), Some(left), "{calendar}");
    }
    let held = served.sink.scan("jobs", None, 10).await.unwrap().unwrap();
    let held: Vec<_> = held.iter().map(|held| (&*held.record.key, held.row.is_some())).collect();
    assert_eq!(held, [("W-2", false)], "the marked one is held as such, the others are not");
}

#[tokio::test]
async fn what_is_delivered_again_or_too_late_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path()).await;
    let old = delivery(1, 1, row(|_| {}));
    let new = delivery(1, 2, row(|it| it["summary"] = json!("Heating")));
    served.apply(std::slice::from_ref(&old)).await;
    served.apply(std::slice::from_ref(&new)).await;
    let before = served.text("anna").await;
    for again in [&new, &old, &new] {
        served.apply(std::slice::from_ref(again)).await;
        assert_eq!(served.text("anna").await, before);
    }
    // Another document has the row now: what the first still says of its end is no matter.
    let mut others = delivery(2, 1, row(|it| it["summary"] = json!("Roof")));
    others.record = old.record.clone();
    served.apply(&[others]).await;
    let taken = served.event("anna").await;
    assert_eq!((&taken["summary"], &taken["sequence"]), (&json!("Roof"), &json!(3)));
    served.apply(&[delivery(1, 3, Action::Delete)]).await;
    assert_eq!(served.event("anna").await, taken);
    // The outbox was lost, and counts anew.
    let mut anew = delivery(2, 1, row(|it| it["summary"] = json!("Stove")));
    anew.record = old.record.clone();
    anew.enqueued_ms += 60_000;
    served.apply(&[anew]).await;
    assert_eq!(served.event("anna").await["summary"], "Stove");
}

#[tokio::test]
async fn lines_are_as_the_standard_wants_them() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path()).await;
    // Every place of a character of four bytes, and of two, to the ends of the lines.
    let shifted = |shift: usize| format!("{}🔧ÄöÜß🚒é, {}", "x".repeat(shift), "ü🔥".repeat(60));
    let texts = (0..80).map(shifted).chain(["x".repeat(300), "a\\;,\n\"b:".repeat(40)]);
    let texts: Vec<_> = texts.collect();
    let deliveries: Vec<_> = (0..)
        .zip(&texts)
        .map(|(document, text)| {
            let of =
                |it: &mut Value| (it["summary"], it["description"]) = (json!(text), json!(text));
            let mut delivery = delivery(document, 1, row(of));
            delivery.record.key = format!("{document:03}");
            delivery
        })
        .collect();
    served.apply(&deliveries).await;
    let bytes = served.get(&path(SECRET, "anna")).await.body;
    assert!(bytes.ends_with(b"END:VCALENDAR\r\n"));
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = line.strip_suffix(b"\r").expect("every line ends with CR LF");
        let line = std::str::from_utf8(line).expect("no character is cut in two");
        assert!((1..=75).contains(&line.len()) && !line.contains('\r'), "{line:?}");
    }
    let events = served.calendar("anna").await["events"].take();
    let read = events.as_array().unwrap();
    assert_eq!(read.len(), texts.len());
    for (read, text) in read.iter().zip(&texts) {
        assert_eq!((&read["summary"], &read["description"]), (&json!(text), &json!(text)));
    }
}

/// What a text becomes: line ends are one kind, and other characters of control are not there.
fn kept(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars().filter(|it| matches!(it, '\n' | '\t') || !it.is_control()).collect()
}

#[test]
fn any_text_is_read_as_it_was_written() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let special = prop::sample::select(vec![
        "\\",
        ";",
        ",",
        ":",
        "\"",
        "\n",
        "\r\n",
        "\r",
        "\t",
        " ",
        "\\n",
        "\\N",
        "\\\\n",
        "ä",
        "🔧",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "^n",
        "%0A",
        "END:VEVENT",
        "e\u{301}",
    ]);
    let text =
        prop::collection::vec(prop_oneof![special.prop_map(str::to_owned), ".{0,20}"], 0..30);
    let texts = prop::collection::vec(text.prop_map(|parts| parts.concat()), 60);
    let mut runner =
        TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let checked = runner.run(&texts, |texts| {
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let served = Served::new(folder.path()).await;
            let deliveries: Vec<_> = (0..)
                .zip(&texts)
                .map(|(document, text)| {
                    let in_order = |it: &mut Value| {
                        (it["summary"], it["location"]) = (json!(text), json!(text));
                    };
                    let mut delivery = delivery(document, 1, row(in_order));
                    delivery.record.key = format!("{document:03}");
                    delivery
                })
                .collect();
            served.apply(&deliveries).await;
            let events = served.calendar("anna").await["events"].take();
            prop_assert_eq!(events.as_array().map(Vec::len), Some(texts.len()));
            for (event, text) in events.as_array().unwrap().iter().zip(&texts) {
                let wanted = Some(kept(text)).filter(|_| !text.is_empty());
                prop_assert_eq!(event["summary"].as_str(), wanted.as_deref(), "from {:?}", text);
                prop_assert_eq!(event["location"].as_str(), wanted.as_deref(), "from {:?}", text);
            }
            Ok(())
        })
    });
    checked.unwrap();
}

#[tokio::test]
async fn clocks_are_changed_as_they_are() {
    for (zone, years) in [
        ("Europe/Berlin", 2026..=2027),
        ("Europe/Dublin", 2026..=2026),
        ("America/New_York", 2024..=2026),
        ("Australia/Lord_Howe", 2026..=2026),
        ("Africa/Casablanca", 2025..=2026),
        ("Asia/Kolkata", 2026..=2026),
        ("UTC", 2026..=2026),
        ("Europe/Berlin", 2050..=2051),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let served = Served::with(folder.path(), |it| it["timezone"] = json!(zone)).await;
        let months = years.flat_map(|year| (1..=12).map(move |month| (year, month)));
        let (mut wanted, mut deliveries) = (Vec::new(), Vec::new());
        for (document, (year, month)) in (0..).zip(months) {
            let time = |hour: u8| format!("{year}-{month:02}-01T{hour:02}:00:00+00:00");
            let of = |it: &mut Value| (it["start"], it["end"]) = (json!(time(8)), json!(time(9)));
            let mut delivery = delivery(document, 1, row(of));
            delivery.record.key = format!("{document:03}");
            deliveries.push(delivery);
            wanted.push((time(8), time(9)));
        }
        served.apply(&deliveries).await;
        let calendar = served.calendar("anna").await;
        let zones = calendar["zones"].as_array().unwrap();
        assert_eq!((zones.len(), &zones[0]["id"]), (1, &json!(zone)));
        assert!(zones[0]["compared"].as_u64() > Some(15_000), "{zones:?}");
        assert_eq!(zones[0]["different"], json!([]), "{zone}");
        for (event, (start, end)) in calendar["events"].as_array().unwrap().iter().zip(&wanted) {
            assert_eq!(
                (event["start"].as_str(), event["end"].as_str()),
                (Some(&**start), Some(&**end))
            );
            assert_eq!(event["start_zone"], zone);
        }
    }
}

#[tokio::test]
async fn times_without_a_zone_are_the_calendars_and_dates_are_whole_days() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::with(folder.path(), |it| it["timezone"] = json!("Europe/Madrid")).await;
    let at = |start: &'static str, end: Option<&'static str>| {
        row(move |it| (it["start"], it["end"]) = (json!(start), json!(end)))
    };
    let lines = async |document, action| {
        served.apply(&[delivery(document, 1, action)]).await;
        let text = served.text("anna").await;
        let uid = format!("UID:W-{document}.");
        let event = text.split("BEGIN:VEVENT").find(|event| event.contains(&uid)).unwrap();
        let times = event.lines().filter(|line| line.starts_with("DT") && !line.contains("STAMP"));
        times.map(str::to_owned).collect::<Vec<_>>()
    };
    let day = lines(1, at("2026-08-20", Some("2026-08-21"))).await;
    assert_eq!(day, ["DTSTART;VALUE=DATE:20260820", "DTEND;VALUE=DATE:20260822"]);
    assert!(!served.text("anna").await.contains("VTIMEZONE"), "days are the same everywhere");
    let one = lines(2, at("2026-08-20", None)).await;
    assert_eq!(one, ["DTSTART;VALUE=DATE:20260820"]);
    let local = lines(3, at("2026-08-20T16:00", Some("2026-08-20T17:00"))).await;
    let zone = "TZID=Europe/Madrid:20260820T1";
    assert_eq!(local, [format!("DTSTART;{zone}60000"), format!("DTEND;{zone}70000")]);
    let both = lines(4, at("2026-08-20T16:00", Some("2026-08-20"))).await;
    assert_eq!(both[1], "DTEND;TZID=Europe/Madrid:20260821T000000");
    let backwards =
        served.sink.apply(&[delivery(5, 1, at("2026-08-20", Some("2026-08-19")))]).await;
    assert!(backwards[0].as_ref().is_err_and(|fault| fault.what.contains("is before")));
}

#[tokio::test]
async fn the_hour_that_comes_twice_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::with(folder.path(), |it| it["timezone"] = json!("Europe/Berlin")).await;
    // 02:30 in summer, an hour later 02:30 in winter; and over the hour that is left out in spring.
    for (document, start, end) in [
        (1, "2026-10-25T00:30:00Z", "2026-10-25T00:45:00Z"),
        (2, "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"),
        (3, "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"),
    ] {
        let feed = document.to_string();
        let of = |it: &mut Value| {
            (it["technician"], it["start"], it["end"]) = (json!(feed), json!(start), json!(end));
        };
        served.apply(&[delivery(document, 1, row(of))]).await;
        let event = served.event(&feed).await;
        let times =
            [&event["start"], &event["end"]].map(|it| it.as_str().unwrap().replace("+00:00", "Z"));
        assert_eq!(times, [start, end]);
    }
}

#[tokio::test]
async fn addresses_are_secret_and_answers_are_not_sent_twice() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path()).await;
    let feeds = ["anna", "Jörg / Süd & 100 %", "../x"];
    for (document, feed) in (1..).zip(feeds) {
        let of = |it: &mut Value| it["technician"] = json!(feed);
        served.apply(&[delivery(document, 1, row(of))]).await;
        assert_eq!(served.sink.path(feed), path(SECRET, feed));
        served.event(feed).await;
    }
    assert_eq!(served.sink.feeds().await.unwrap().len(), 3);

    let own = path(SECRET, "anna");
    let token = own.split('/').nth(2).unwrap();
    let refused = served.get("/nothing/here").await;
    assert_eq!((refused.status, &refused.body), (404, &Vec::new()));
    for wrong in [
        path("another secret of some length", "anna"),
        path(SECRET, "nobody"),
        format!("/calendars/{token}/nobody.ics"),
        format!("/calendars/{token}/anna"),
        format!("/calendars/{}/anna.ics", &token[1..]),
        "/calendars//anna.ics".to_owned(),
        "/calendars/%ff%fe/%ff.ics".to_owned(),
    ] {
        let answer = served.get(&wrong).await;
        assert_eq!((answer.status, answer.body), (404, Vec::new()), "{wrong}");
        // When it was is the only difference.
        let headers = |answer: &Answer| {
            let all = answer.headers.clone().into_iter();
            all.filter(|(name, _)| name != "date").collect::<Vec<_>>()
        };
        assert_eq!(headers(&served.get(&wrong).await), headers(&refused), "{wrong}");
    }

    let whole = served.get(&own).await;
    assert_eq!(whole.header("cache-control"), "private, max-age=300");
    let etag = whole.header("etag").to_owned();
    for known in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let answer = request(served.address, "GET", &own, &[("if-none-match", &known)]).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{known}");
        assert_eq!(answer.headers.iter().find(|it| it.0 == "etag").unwrap().1, etag);
    }
    let head = request(served.address, "HEAD", &own, &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), whole.body.len().to_string());
    assert_eq!(request(served.address, "POST", &own, &[]).await.status, 405);

    served.apply(&[delivery(1, 2, row(|it| it["summary"] = json!("Roof")))]).await;
    let answer = request(served.address, "GET", &own, &[("if-none-match", &etag)]).await;
    assert_eq!(answer.status, 200);
    assert_ne!(answer.header("etag"), etag);
    assert_ne!(answer.header("last-modified"), whole.header("last-modified"));
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path()).await;
    let first = delivery(1, 1, row(|it| it["technician"] = json!(["anna", "ben"])));
    served.apply(std::slice::from_ref(&first)).await;
    served.apply(&[delivery(1, 2, row(|_| {})), delivery(2, 1, row(|_| {}))]).await;
    let before = [served.text("anna").await, served.text("ben").await];
    let rows = served.sink.scan("jobs", None, 10).await.unwrap();
    served.end().await;
    let served = Served::new(folder.path()).await;
    assert_eq!([served.text("anna").await, served.text("ben").await], before);
    assert_eq!(served.sink.scan("jobs", None, 10).await.unwrap(), rows);
    served.apply(&[first]).await;
    assert_eq!([served.text("anna").await, served.text("ben").await], before);
}

#[tokio::test]
async fn a_bad_row_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path()).await;
    served.apply(&[delivery(9, 1, row(|_| {}))]).await;
    let bad: Vec<(&str, Value)> = vec![
        ("start", json!("tomorrow at nine")),
        ("start", json!("2026-09-21T08:00:00")),
        ("end", json!("2026-09-21T05:00:00Z")),
        ("end", json!(-1)),
        ("start", json!(i64::MAX)),
        ("end", json!(253_402_300_800_000_u64)),
        ("start", json!(1.5)),
        ("summary", json!({ "secret": "4711" })),
        ("technician", json!({ "name": "4711" })),
        ("technician", json!("4711".repeat(100))),
        ("description", json!("4711".repeat(100_000))),
    ];
    let bad_ones = (10..).zip(&bad).map(|(document, (field, value))| {
        delivery(document, 1, row(|it| it[*field] = value.clone()))
    });
    let good = |document| delivery(document, 1, row(|_| {}));
    let mut all: Vec<_> = bad_ones.collect();
    all.insert(0, good(1));
    all.push(good(2));
    let mut outcomes = served.sink.apply(&all).await;
    assert_eq!((outcomes.remove(0), outcomes.pop()), (Ok(()), Some(Ok(()))));
    for (outcome, (field, _)) in outcomes.into_iter().zip(&bad) {
        let Fault { class, what, answer, .. } = outcome.unwrap_err();
        assert_eq!((class, answer), (FaultClass::Permanent, None), "{what}");
        assert!(what.contains(&format!("{field:?}")) && !what.contains("4711"), "{what}");
    }
    let calendar = served.calendar("anna").await;
    assert_eq!(calendar["events"].as_array().map(Vec::len), Some(3));
    let held = served.sink.scan("jobs", Some("W-1"), 1).await.unwrap().unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].record.key, "W-2");
    assert_eq!(Action::Put(held[0].row.clone().unwrap()), row(|_| {}));
    assert_eq!(served.sink.scan("others", None, 9).await, Ok(Some(Vec::new())));
}

#[tokio::test]
async fn what_cannot_be_served_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short");
    std::fs::write(&short, "hunter2").unwrap();
    let options: Options = serde_json::from_value(json!({
        "folder": "calendars", "listen": "127.0.0.1:0", "secret": format!("file:{}", short.display()),
    }))
    .unwrap();
    let said = Icalendar::open(options, folder.path()).unwrap_err().to_string();
    assert!(said.contains("24 characters") && !said.contains("hunter2"), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    // Whoever only looks at adapters opens their sinks too: that needs no address.
    let sink = open(folder.path(), |it| it["listen"] = json!(address));
    let fault = sink.serve().await.unwrap_err();
    assert!(fault.is_transient() || fault.is_trouble(), "{fault}");
    assert!(fault.to_string().contains(&address), "{fault}");
    assert!(!format!("{sink:?}").contains(SECRET), "{sink:?}");
}

/// The configuration of an adapter to calendars at an address, and of one to files.
fn calendar_and_lines(relay: &str, address: SocketAddr, secret: &Path) -> String {
    let record = |adapter: &str| {
        format!(
            r#"
            [[adapter.{adapter}.record]]
            name = "jobs"
            key  = "{{key}}"
            [adapter.{adapter}.record.fields]
            technician = {{ from = "technician" }}
            start      = {{ from = "start" }}
            summary    = {{ from = "title" }}
            "#
        )
    };
    format!(
        r#"
        [replica]
        data  = "adapters"
        relay = "{relay}"
        space = "main"
        [adapter.calendar]
        collection = "jobs"
        sink = {{ kind = "icalendar", folder = "calendars", listen = "{address}", secret = "file:{}" }}
        {}
        [adapter.lines]
        collection = "jobs"
        sink = {{ kind = "jsonl", folder = "out" }}
        {}
        "#,
        secret.display(),
        record("calendar"),
        record("lines")
    )
}

#[test]
fn adapters_serve_calendars_once_they_can() {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(folder.path().join("relay"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, address) = (relay.url(), taken.local_addr().unwrap());
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let text = calendar_and_lines(&url, address, &secret);
    std::fs::write(folder.path().join("adapters.toml"), text).unwrap();
    let rejoin = Rejoin::in_dir(folder.path());
    let mut running = Running::start(rejoin.command(["adapters", "run"]));
    assert!(running.line().unwrap().contains("calendar"));
    let start = "start=2026-09-21T08:00:00Z";
    rejoin.ok([
        "--replica",
        "desk.redb",
        "set",
        "jobs",
        "W-1",
        "technician=anna",
        "title=Roof",
        start,
    ]);
    rejoin.ok(["--replica", "desk.redb", "sync", &relay.url(), "--once"]);
    let began = Instant::now();
    let out = folder.path().join("out").join("1.jsonl");
    while !std::fs::read_to_string(&out).is_ok_and(|lines| lines.contains("Roof")) {
        assert!(began.elapsed() < Duration::from_secs(60), "the other adapter waits too");
        std::thread::yield_now();
    }
    drop(taken);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = runtime.block_on(async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "it does not try again");
            tokio::task::yield_now().await;
        }
        loop {
            let answer = request(address, "GET", &path(SECRET, "anna"), &[]).await;
            if answer.status == 200 {
                break answer;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "there is no calendar");
        }
    });
    let read = python::run("read_calendar.py", &answer.body);
    let calendar: Value = serde_json::from_slice(&read).unwrap();
    assert_eq!(calendar["events"][0]["summary"], "Roof");
    assert_eq!(calendar["events"][0]["uid"], "W-1.jobs@calendar.rejoin");
    // While they run, and when they do not, one may look at them.
    rejoin.ok(["adapters", "status"]);
    assert_eq!(running.terminate(), Some(0));
    rejoin.ok(["adapters", "status"]);
}
