//! The demo, which is what a newcomer runs first.

use rejoin_tests::processes::Rejoin;
use serde_json::Value;

#[test]
fn the_demo_converges_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Rejoin::in_dir(folder.path()).command(["demo", "--json"]);
    // Where the demo puts its own folder.
    let output = command.env("TMPDIR", folder.path()).output().expect("rejoin starts");
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["converged"], true);
    for same in ["same_digest", "same_content", "same_reviews"] {
        assert_eq!(report[same], true, "{same}");
    }
    assert_eq!(report["documents"], 315);
    let dispatch = &report["dispatch"];
    for promise in [
        "found_on_every_device",
        "settled_on_every_device",
        "both_bookings_confirmed",
        "nothing_lost",
    ] {
        assert_eq!(dispatch[promise], true, "{promise}: {dispatch}");
    }
    let deliveries = &report["deliveries"];
    for promise in [
        "every_request_signed",
        "agreed_while_open",
        "settled_in_both",
        "same_correlation",
        "refused_and_tried_again",
        "repeat_was_known",
    ] {
        assert_eq!(deliveries[promise], true, "{promise}: {deliveries}");
    }
    // Every job once, what was decided, and two repeats.
    assert_eq!(deliveries["requests"], 15 + 1 + 2);
    let merges = report["merges"].as_array().expect("merges");
    assert_eq!(merges.len(), 7);
    assert!(merges.iter().all(|merge| merge["as_promised"] == true), "{merges:?}");
    let waited = report["crash"]["waiting_when_restarted"].as_u64().expect("a number");
    assert!(waited > 0, "the relay was killed when nothing was under way");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn the_demo_is_readable_at_80_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    let printed = Rejoin::in_dir(folder.path()).ok(["demo"]);
    for scene in [
        "The office opens",
        "Live edits",
        "dead zone",
        "relay is killed",
        "At 4:10 a customer calls",
        "every device asks the same",
        "Other systems get what is agreed",
        "The same everywhere?",
    ] {
        assert!(printed.contains(scene), "{scene} is missing in:\n{printed}");
    }
    for answer in ["503, try later", "204, taken", "taken, no answer", "204, known"] {
        assert!(printed.contains(answer), "{answer} is missing in:\n{printed}");
    }
    assert!(printed.contains("Everyone has the same day"), "{printed}");
    let widest = printed.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{printed}");
    assert!(!printed.contains('\x1b'), "colour without a terminal");
}
