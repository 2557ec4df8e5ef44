//! Rules that come to documents which are there: nothing disappears, what they touch is said before,
//! and many reviews are settled at once.

use rejoin_tests::processes::Desk;
use serde_json::{Value, json};

/// Thirty requests from a file, of which nobody in particular is the author.
fn desk() -> Desk {
    let desk = Desk::new();
    let mut csv = "id,Status,City,hours\n".to_owned();
    for at in 1..=30 {
        let city = if at % 3 == 0 { "Bern" } else { "Thun" };
        csv += &format!("{at},{},{city},{at}\n", if at % 2 == 0 { "Open" } else { "Closed" });
    }
    desk.write("requests.csv", &csv);
    desk.text("import requests.csv --collection requests --key id");
    desk.write("rules.toml", "[requests.fields]\nStatus = { writers = [\"dispatch\"] }\n");
    desk
}

fn entry(desk: &Desk, key: &str) -> Value {
    desk.json(&format!("get requests {key}"))
}

#[test]
fn what_a_rule_would_touch_is_said_before_it_is_applied() {
    let desk = desk();
    let told = desk.json("schema diff rules.toml")["collections"]["requests"]["touches"].take();
    let numbers = json!([told["documents"], told["count_less"], told["reviews_opened"]]);
    assert_eq!(numbers, json!([30, 30, 30]));
    assert_eq!(told["read_otherwise"], 0);
    let refused = desk.refused("schema apply rules.toml");
    assert!(refused.contains("30 reviews would open") && refused.contains("--yes"), "{refused}");
    assert_eq!(desk.json("reviews"), json!([]), "nothing was applied");
    assert_eq!(desk.json("schema show"), json!({}));

    let applied = desk.text("schema apply rules.toml --yes");
    assert!(applied.contains("30 reviews would open"), "{applied}");
    assert_eq!(desk.json("reviews").as_array().map(Vec::len), Some(30));
    // Applied a second time it touches nothing, and does not ask.
    assert!(desk.text("schema apply rules.toml").contains("unchanged"));
    // What touches nothing needs no word.
    desk.write("more.toml", "[requests.fields]\nStatus = { writers = [\"dispatch\"] }\nhours = { type = \"integer\" }\n");
    desk.text("schema apply more.toml");
}

#[test]
fn a_late_rule_takes_no_value_out_of_sight() {
    let desk = desk();
    desk.text("schema apply rules.toml --yes");
    assert_eq!(entry(&desk, "2")["value"]["Status"], "Open");
    let shown = desk.text("get requests 2");
    assert!(shown.contains("Open") && shown.contains("may not, so it does not count"), "{shown}");
    let listed = desk.text("list requests --where Status=Open");
    assert!(listed.contains("15 documents match, 15 with open reviews (*)"), "{listed}");
    // The same file again says nothing new, so nobody is asked for a right to it.
    let again = desk.json("import requests.csv --collection requests --key id");
    assert_eq!((&again["created"], &again["changed"]), (&json!(0), &json!(0)), "{again}");

    // Who may write, and sees what was written, decides by writing: also that it is right.
    desk.text("--as bea:dispatch set requests 2 Status=Open");
    assert_eq!(entry(&desk, "2")["value"]["Status"], "Open");
    assert!(!desk.text("get requests 2").contains("does not count"));
    assert_eq!(desk.json("reviews").as_array().map(Vec::len), Some(29));
}

#[test]
fn many_reviews_are_settled_at_once() {
    let desk = desk();
    desk.text("schema apply rules.toml --yes");
    let refused = desk.refused("settle --field Status --take newest");
    assert!(refused.contains("nothing was settled"), "who may not write may not decide: {refused}");
    let refused = desk.refused("settle --field Status --take 1");
    assert!(refused.contains("--take newest, --take mine, --take standing"), "{refused}");
    let refused = desk.refused("settle --field Priority --take newest");
    assert!(refused.contains("no open review is about field Priority"), "{refused}");

    let settled =
        desk.json("--as bea:dispatch settle --field Status --where City=Bern --take newest");
    assert_eq!((&settled["settled"], &settled["left"]), (&json!(10), &json!([])), "{settled}");
    let open = desk.json("reviews");
    assert_eq!(open.as_array().map(Vec::len), Some(20));
    assert!(!desk.text("get requests 3").contains("does not count"));
    // Nothing stands in the others, so nobody clears them by the way.
    let left = desk.refused("--as bea:dispatch settle --field Status --take standing");
    assert!(left.contains("nothing was settled"), "{left}");
    assert_eq!(entry(&desk, "1")["value"]["Status"], "Closed");
    // Each has a settlement of its own, with who decided and why.
    let settled =
        desk.json("--as bea:dispatch settle --field Status --take newest --because checked");
    assert_eq!(settled["settled"], 20);
    let all = desk.json("reviews --all");
    let all = all.as_array().expect("a list");
    assert_eq!(all.len(), 30);
    for review in all {
        assert_eq!(review["state"], "settled");
        assert_eq!(review["settled_by"]["author"]["user"], "bea");
    }
    assert_eq!(all.iter().filter(|review| review["why"] == "checked").count(), 20);
    assert_eq!(desk.text("reviews"), "no open reviews\n");
}

#[test]
fn people_take_back_their_own_step_without_a_review() {
    let desk = Desk::new();
    desk.write(
        "order.toml",
        "[jobs.fields]\nstatus = { merge = \"order\", order = [\"booked\", \"en_route\", \"done\"] }\n",
    );
    desk.text("schema apply order.toml");
    desk.text("--as dora set jobs W-1 status=booked");
    desk.text("--as timo set jobs W-1 status=done");
    desk.text("--as timo set jobs W-1 status=booked");
    assert_eq!(desk.json("get jobs W-1")["value"]["status"], "booked");
    assert_eq!(desk.json("reviews"), json!([]));
    // Behind what another person said it is for somebody to decide.
    desk.text("--as dora set jobs W-1 status=en_route");
    desk.text("--as timo set jobs W-1 status=booked");
    assert_eq!(desk.json("get jobs W-1")["value"]["status"], "en_route");
    assert_eq!(desk.json("reviews").as_array().map(Vec::len), Some(1));
}
