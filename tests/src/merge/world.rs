//! One history: several people edit on devices that hear of each other late and in any order, and
//! in the end all meet and settle what is open.

use std::collections::{BTreeMap, VecDeque};

use rejoin::review::ReviewKind;
use rejoin::undo::Way;
use rejoin::value::Segment;
use rejoin::view::FieldState;
use rejoin::{Decision, EditError, Identity, Op, Path, ReviewId, UndoError};
use rejoin_core::schema::Schema;
use rejoin_engine::{Content, Edit};
use serde_json::{Value, json};

use super::Report;
use super::checks::{Check, Checker, same};
use super::device::{Device, JOB, SCHEMA, id, space};
use super::foreign::Foreign;
use super::history::{History, Set};
use super::meant::Meant;
use super::people::{FIELDS, Habit, edit, invent, look};
use super::schemas;
use crate::sim::random::Random;

/// One history in the making.
#[derive(Debug)]
pub struct World {
    random: Random,
    histories: [History; 2],
    devices: Vec<Device>,
    foreign: Option<Foreign>,
    checker: Checker,
    habit: Habit,
    /// Whether people take back what they did.
    undoes: bool,
    now_s: i64,
    checks: u64,
    changes: usize,
    print: bool,
    tail: VecDeque<String>,
}

impl World {
    /// A world of a seed.
    pub fn new(seed: u64, print: bool) -> Self {
        let mut random = Random::new(seed);
        let actors = random.between(3, 5);
        let foreign = random.chance(400);
        let devices = (0..actors - u64::from(foreign)).map(|_| Device::new(random.fork()));
        let devices = devices.collect();
        let nobody = random.chance(500);
        let identity = somebody(&mut random);
        let foreign =
            foreign.then(|| Foreign::new(identity.as_ref().filter(|_| !nobody), &mut random));
        let habit = Habit::any(&mut random);
        Self {
            random,
            habit,
            undoes: seed % 3 == 1,
            histories: Default::default(),
            devices,
            checker: Checker::new(foreign.is_some()),
            foreign,
            now_s: 1000,
            checks: 0,
            changes: 0,
            print,
            tail: VecDeque::new(),
        }
    }

    /// What was written: to the job, and to the schema.
    pub fn histories(&self) -> &[History; 2] {
        &self.histories
    }

    /// What came of it.
    pub fn report(&self) -> Report {
        let mut found = self.checker.found.clone();
        found.insert("deletions that left something", self.histories[JOB].left_over);
        Report { changes: self.changes, checks: self.checks, found }
    }

    /// The last things that happened.
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// Plays it.
    ///
    /// # Errors
    /// A device showed something else than the fold.
    pub fn run(&mut self) -> Check {
        for at in 0..self.devices.len() {
            let identity = somebody(&mut self.random);
            self.note(format!("device {at} is {identity:?}"));
            self.devices[at].act_as(identity);
        }
        if self.random.chance(850) {
            self.change_schema(0)?;
        }
        let mut to_reload: Vec<usize> = (0..self.devices.len()).collect();
        to_reload.truncate(self.devices.len().div_ceil(2));
        let wanted = self.random.between(20, 60) as usize;
        let reload_every = (wanted / (to_reload.len() + 1)).max(1);
        for _ in 0..10 * wanted {
            if self.histories[JOB].edits() >= wanted {
                break;
            }
            self.step()?;
            let due = self.histories[JOB].edits() / reload_every;
            if to_reload.len() + due > self.devices.len().div_ceil(2)
                && let Some(at) = to_reload.pop()
            {
                self.reload(at)?;
            }
        }
        self.changes = self.histories[JOB].edits();
        self.meet()?;
        self.settle_all()
    }

    fn step(&mut self) -> Check {
        // In steps, so that clocks are sometimes exactly as far apart as a rule allows.
        self.now_s += 30 * self.random.below(4) as i64;
        let at = self.random.index(self.devices.len());
        if self.undoes && self.random.chance(120) {
            return self.undo(at);
        }
        match self.random.below(1000) {
            0..560 => self.edit(at),
            560..840 => self.deliver(at),
            840..920 => self.decide(at),
            920..940 => self.change_schema(at),
            940..955 => {
                let identity = somebody(&mut self.random);
                self.note(format!("device {at} is {identity:?} now"));
                self.devices[at].act_as(identity);
                Ok(())
            }
            _ => {
                self.write_elsewhere();
                Ok(())
            }
        }
    }

    fn edit(&mut self, at: usize) -> Check {
        let mut edits = Vec::new();
        for _ in 0..if self.random.chance(100) { 2 } else { 1 } {
            edits.push(invent(&mut self.devices[at], self.habit, &mut self.random));
        }
        let contents: Vec<_> = edits.iter().map(|edit| edit.content.clone()).collect();
        let is_old = |content: &Content| matches!(content, Content::Ops { base: Some(_), .. });
        let mut alone = !contents.iter().any(is_old);
        let meant = self.meant(at, &contents);
        let before = self.devices[at].engine.view(0, &id(JOB)).ok().map(|view| view.value);
        // What comes with the same commit comes after the edit.
        if self.random.chance(100) {
            self.hand_over(at, JOB);
            alone = false;
        }
        let known = self.histories[JOB].changes.len();
        let refused = self.random.chance(150);
        let made = if refused {
            alone = false;
            self.turn_refused(at, edits)?
        } else {
            self.turn(at, edits)?
        };
        self.check_meant(at, meant, known)?;
        look(&mut self.devices[at]);
        if alone {
            let edited = made.iter().filter(|made| **made).count();
            let contents = contents.iter().zip(made).filter(|(_, made)| *made);
            self.read_back(at, &written(contents.map(|(content, _)| content)))?;
            // A document that the edit made is deleted by an undo.
            let is_new = self.histories[JOB].changes.len() > known;
            let at_once = self.undoes && is_new && edited == 1 && self.random.chance(200);
            if at_once && let Some(before) = before {
                self.undo_and_redo(at, before)?;
            }
        }
        if self.random.chance(60) { self.check(at) } else { Ok(()) }
    }

    /// Somebody takes back what they did last on a device, or does it again.
    fn undo(&mut self, at: usize) -> Check {
        let way = if self.random.chance(300) { Way::Redo } else { Way::Undo };
        self.go(at, way)?;
        look(&mut self.devices[at]);
        if self.random.chance(300) { self.check(at) } else { Ok(()) }
    }

    /// Takes something back, or does it again. The answer is whether all of it was.
    fn go(&mut self, at: usize, way: Way) -> Result<bool, String> {
        let device = &mut self.devices[at];
        let gone = device.engine.undo(0, self.now_s + device.ahead_s, None, way);
        let (what, is_whole) = match gone {
            Ok(undone) => {
                let found = if way == Way::Undo { "undone" } else { "redone" };
                *self.checker.found.entry(found).or_default() += 1;
                let kept = undone.kept.len() as u64;
                *self.checker.found.entry("kept from an undo").or_default() += kept;
                let documents = undone.documents.iter();
                let changes: Vec<_> = documents.map(|it| it.edited.changes.clone()).collect();
                (format!("{changes:?}, kept {:?}", undone.kept), undone.kept.is_empty())
            }
            Err(error @ (UndoError::Nothing { .. } | UndoError::Kept(_))) => {
                (error.to_string(), false)
            }
            Err(error) => return Err(format!("{way:?} at device {at}: {error}")),
        };
        self.note(format!("device {at}: {way:?}: {what}"));
        self.devices[at].publish(&mut self.histories);
        Ok(is_whole)
    }

    /// An edit that is taken back at once leaves what was there, and is there again after a redo.
    fn undo_and_redo(&mut self, at: usize, before: Value) -> Check {
        let value = |world: &mut Self| -> Result<Value, String> {
            let view = world.devices[at].engine.view(0, &id(JOB)).map_err(|it| it.to_string())?;
            Ok(world.without_defaults(at, view.value))
        };
        let edited = value(self)?;
        if !self.go(at, Way::Undo)? {
            return Ok(());
        }
        let before = self.without_defaults(at, before);
        same(&format!("what device {at} took back"), &value(self)?, &before)?;
        self.check(at)?;
        if self.go(at, Way::Redo)? {
            same(&format!("what device {at} did again"), &value(self)?, &edited)?;
        }
        *self.checker.found.entry("undone at once").or_default() += 1;
        Ok(())
    }

    /// A value without what reads as nothing, and without what the schema puts into maps that were
    /// begun.
    fn without_defaults(&mut self, at: usize, mut value: Value) -> Value {
        let [fold, _] = self.checker.folds(&self.histories, &self.devices[at].known[SCHEMA]);
        for (path, field) in &fold.schema().fields {
            let Some(default) = &field.default else { continue };
            let Some((Segment::Key(last), around)) = path.segments().split_last() else { continue };
            let map = around.iter().try_fold(&mut value, |map, segment| match segment {
                Segment::Key(key) => map.get_mut(key),
                Segment::Index(_) => None,
            });
            if let Some(map) = map.and_then(Value::as_object_mut)
                && map.get(last) == Some(default)
            {
                map.remove(last);
            }
        }
        without_nothing(value)
    }

    /// What an edit of one step is meant for, on what its author sees.
    fn meant(&self, at: usize, contents: &[Content]) -> Option<Meant> {
        let [Content::Ops { base, ops }] = contents else { return None };
        let [op] = ops.as_slice() else { return None };
        let seen = match base {
            Some(base) => self.histories[JOB].up_to(base),
            None => self.devices[at].known[JOB].clone(),
        };
        Some(Meant { seen, op: op.clone() })
    }

    /// What was written is what was meant, by the schema of the device.
    fn check_meant(&mut self, at: usize, meant: Option<Meant>, known: usize) -> Check {
        let Some(meant) = meant else { return Ok(()) };
        let history = &self.histories[JOB];
        let made = (known..history.changes.len()).filter(|it| !history.changes[*it].reserved);
        let made: Vec<usize> = made.collect();
        let schema = &self.devices[at].known[SCHEMA];
        let [fold, _] = self.checker.folds(&self.histories, schema);
        let checked = meant.check(fold, &self.histories[JOB], &made);
        if let Some(found) = checked.map_err(|what| format!("device {at}: {what}"))? {
            *self.checker.found.entry(found).or_default() += 1;
        }
        Ok(())
    }

    /// Makes edits that the relay refuses, once more may have come meanwhile. They are made anew.
    fn turn_refused(&mut self, at: usize, edits: Vec<Edit>) -> Result<Vec<bool>, String> {
        let told: Vec<_> = edits.iter().map(|edit| format!("{:?}", edit.content)).collect();
        let results = self.devices[at].turn(self.now_s, edits);
        let changes: Vec<_> =
            results.iter().flatten().flat_map(|edited| edited.changes.clone()).collect();
        self.note(format!("device {at}: {told:?}, refused: {changes:?}"));
        if self.random.chance(500) {
            self.hand_over(at, JOB);
            self.devices[at].turn(self.now_s, Vec::new());
        }
        self.devices[at].refuse(self.now_s, &changes);
        self.devices[at].publish(&mut self.histories);
        *self.checker.found.entry("made anew").or_default() += 1;
        Ok(results.iter().map(Result::is_ok).collect())
    }

    /// Makes edits, and returns which of them were.
    fn turn(&mut self, at: usize, edits: Vec<Edit>) -> Result<Vec<bool>, String> {
        let told: Vec<_> = edits.iter().map(|edit| format!("{:?}", edit.content)).collect();
        let results = self.devices[at].turn(self.now_s, edits);
        let mut made = Vec::new();
        for (told, result) in told.iter().zip(results) {
            made.push(result.is_ok());
            let outcome = match result {
                Ok(edited) => format!("{:?}", edited.changes),
                Err(EditError::Write(error)) => error.to_string(),
                Err(
                    error @ (EditError::NotAllowed { .. }
                    | EditError::Decision(_)
                    | EditError::Deleted),
                ) => error.to_string(),
                Err(error) => return Err(format!("{told} at device {at}: {error}")),
            };
            self.note(format!("device {at}: {told}: {outcome}"));
        }
        self.devices[at].publish(&mut self.histories);
        Ok(made)
    }

    /// Who wrote a field reads what they wrote, unless that is one of several things to choose.
    fn read_back(&mut self, at: usize, written: &BTreeMap<String, Value>) -> Check {
        let Ok(view) = self.devices[at].engine.view(0, &id(JOB)) else { return Ok(()) };
        let [fold, _] = self.checker.folds(&self.histories, &self.devices[at].known[SCHEMA]);
        for (name, wanted) in written {
            let is_asked = |state: &FieldState| {
                matches!(state, FieldState::Conflict { .. } | FieldState::Refused { .. })
            };
            if view.field(name).is_some_and(|field| field.states.iter().any(is_asked)) {
                continue;
            }
            let field = fold.schema().field(&Path::from([name.as_str()]));
            let default = field.and_then(|field| field.default.clone()).unwrap_or_default();
            let wanted = if wanted.is_null() { &default } else { wanted };
            let read = view.value.get(name).unwrap_or(&Value::Null);
            if read != wanted && !(read.is_null() && *wanted == default) {
                return Err(format!("{name} reads {read} at device {at}, who wrote {wanted}"));
            }
        }
        Ok(())
    }

    fn change_schema(&mut self, at: usize) -> Check {
        let content = match self.random.below(10) {
            0 => Content::Ops { base: None, ops: vec![Op::Delete] },
            _ => {
                let schema: Schema = schemas::any(&mut self.random);
                *self.checker.found.entry("schema changes").or_default() += 1;
                Content::Fields(json_map(schema.to_value()))
            }
        };
        self.turn(at, vec![edit(SCHEMA, content)]).map(drop)
    }

    /// Somebody hears of some of what others did.
    fn deliver(&mut self, at: usize) -> Check {
        let document = if self.random.chance(250) { SCHEMA } else { JOB };
        self.hand_over(at, document);
        self.turn(at, Vec::new())?;
        look(&mut self.devices[at]);
        if self.random.chance(200) { self.check(at) } else { Ok(()) }
    }

    fn hand_over(&mut self, at: usize, document: usize) {
        let history = &self.histories[document];
        let mut some = Set::new();
        let all = self.random.chance(300);
        for change in 0..history.changes.len() {
            if all || self.random.chance(120) {
                some.extend(history.with_ancestors(change));
            }
        }
        self.note(format!("device {at} hears of {some:?} of document {document}"));
        let history = &self.histories[document];
        if self.random.chance(100) && !some.is_empty() {
            self.devices[at].receive_snapshot(document, history, &some);
        } else {
            self.devices[at].receive(document, history, &some);
        }
    }

    fn write_elsewhere(&mut self) {
        let Some(foreign) = &mut self.foreign else { return };
        let history = &mut self.histories[JOB];
        let mut some = Set::new();
        for change in 0..history.changes.len() {
            if self.random.chance(300) {
                some.extend(history.with_ancestors(change));
            }
        }
        foreign.receive(history, &some);
        foreign.write(history, &mut self.random);
        let (heads, known) = (history.heads(&foreign.known), foreign.known.clone());
        self.note(format!("another program knows {known:?} and is at {heads:?}"));
    }

    /// Somebody settles something they see.
    fn decide(&mut self, at: usize) -> Check {
        self.check(at)?;
        let open = self.open_reviews(at)?;
        let Some((review, document, candidates)) = self.random.pick(&open).cloned() else {
            return Ok(());
        };
        let decision = self.decision(&candidates);
        let why = self.random.chance(300).then(|| "I called them".to_owned());
        let edit = edit(document, Content::Decide { review, decision, why });
        self.turn(at, vec![edit]).map(drop)
    }

    fn decision(&mut self, candidates: &[rejoin::ChangeHash]) -> Decision {
        match self.random.below(10) {
            0..7 if candidates.is_empty() => Decision::Value(None),
            0..5 => Decision::Take(*self.random.pick(candidates).expect("there are some")),
            5..7 => Decision::Value(Some(json!(["a", "b", "done"][self.random.index(3)]))),
            7 => Decision::Value(None),
            _ => Decision::Dismiss,
        }
    }

    fn open_reviews(
        &mut self,
        at: usize,
    ) -> Result<Vec<(ReviewId, usize, Vec<rejoin::ChangeHash>)>, String> {
        let view = self.devices[at].engine.store().read().map_err(|it| it.to_string())?;
        let rows = view.reviews(&space()).map_err(|it| it.to_string())?;
        let open = rows.into_iter().filter(|(_, row)| row.settled.is_none());
        let open = open.map(|(review, row)| {
            let document = if row.documents[0].document == id(JOB) { JOB } else { SCHEMA };
            // What is hidden cannot be taken.
            let takes = row.kind != ReviewKind::Hidden;
            let candidates = row.candidates.iter().filter(|_| takes);
            (review, document, candidates.map(|it| it.change).collect())
        });
        Ok(open.collect())
    }

    /// A device forgets everything it holds in memory, or is another that begins with a snapshot.
    fn reload(&mut self, at: usize) -> Check {
        let anew = self.random.chance(600);
        self.note(format!("device {at} begins {}", if anew { "anew" } else { "again" }));
        if anew {
            let mut device = Device::new(self.random.fork());
            device.act_as(somebody(&mut self.random));
            let before = std::mem::replace(&mut self.devices[at], device);
            for document in [SCHEMA, JOB] {
                if !before.known[document].is_empty() {
                    let history = &self.histories[document];
                    self.devices[at].receive_snapshot(document, history, &before.known[document]);
                }
            }
            self.turn(at, Vec::new())?;
        } else {
            if self.random.chance(300) {
                self.fold(at)?;
            }
            self.devices[at].reopen();
        }
        *self.checker.found.entry("reloads").or_default() += 1;
        self.check(at)
    }

    /// Writes so much that the engine folds the document into a snapshot.
    fn fold(&mut self, at: usize) -> Check {
        let blob: String =
            (0..90_000).map(|_| (b'!' + self.random.below(90) as u8) as char).collect();
        let path = Path::from(["blob"]);
        for after in [json!(blob), Value::Null] {
            let ops = vec![Op::Set { path: path.clone(), before: None, after }];
            let edit = edit(JOB, Content::Ops { base: None, ops });
            let result = self.devices[at].turn(self.now_s, vec![edit]);
            result.into_iter().next().expect("one answer").map_err(|error| error.to_string())?;
            self.devices[at].publish(&mut self.histories);
        }
        let view = self.devices[at].engine.store().read().map_err(|it| it.to_string())?;
        let row = view.document(&id(JOB)).map_err(|it| it.to_string())?.ok_or("no job")?;
        same("whether it was folded", &(row.snapshot_bytes > 0), &true)?;
        *self.checker.found.entry("folds").or_default() += 1;
        Ok(())
    }

    fn check(&mut self, at: usize) -> Check {
        self.checks += 1;
        let checked = self.checker.check(&mut self.devices[at], &self.histories);
        checked.map_err(|what| format!("device {at}: {what}"))
    }

    /// Everybody hears of everything.
    fn meet(&mut self) -> Check {
        for at in 0..self.devices.len() {
            for document in [JOB, SCHEMA] {
                let all = (0..self.histories[document].changes.len()).collect();
                self.devices[at].receive(document, &self.histories[document], &all);
            }
            self.turn(at, Vec::new())?;
        }
        for at in 0..self.devices.len() {
            self.check(at)?;
        }
        self.agree()
    }

    /// All devices show the same, compared with each other and not with the fold.
    fn agree(&mut self) -> Check {
        let mut first = None;
        for at in 0..self.devices.len() {
            let device = &mut self.devices[at];
            let view = device.engine.view(0, &id(JOB)).map_err(|error| error.to_string())?;
            let read = device.engine.store().read().map_err(|error| error.to_string())?;
            let reviews = read.reviews(&space()).map_err(|error| error.to_string())?;
            let (view, reviews) =
                first.get_or_insert_with(|| (view.clone(), reviews.clone())).clone();
            let device = &mut self.devices[at];
            let own = device.engine.view(0, &id(JOB)).map_err(|error| error.to_string())?;
            same("the view on another device", &own, &view)?;
            let read = device.engine.store().read().map_err(|error| error.to_string())?;
            let own = read.reviews(&space()).map_err(|error| error.to_string())?;
            same("the reviews on another device", &own, &reviews)?;
        }
        Ok(())
    }

    /// Somebody with every right settles everything, and then nothing is open anywhere.
    fn settle_all(&mut self) -> Check {
        let at = self.random.index(self.devices.len());
        for _ in 0..200 {
            let open = self.open_reviews(at)?;
            let Some((review, document, candidates)) = self.random.pick(&open).cloned() else {
                break;
            };
            let decision = self.decision(&candidates);
            self.settle(at, review, document, decision)?;
        }
        let open = self.open_reviews(at)?;
        same("what is open after everything was settled", &open, &Vec::new())?;
        self.meet()
    }

    fn settle(
        &mut self,
        at: usize,
        review: ReviewId,
        document: usize,
        decision: Decision,
    ) -> Check {
        let is_last = decision == Decision::Dismiss;
        for role in ["dispatch", "crm", "tech"] {
            self.devices[at].act_as(Some(Identity::user("Eve").with_role(role)));
            let why = None;
            let content = Content::Decide { review, decision: decision.clone(), why };
            let told = format!("{content:?}");
            let result = self.devices[at].turn(self.now_s, vec![edit(document, content)]).remove(0);
            match result {
                Err(EditError::NotAllowed { .. }) => continue,
                // What is seen may be of another kind than what is hidden.
                Err(EditError::Write(_) | EditError::Decision(_)) if !is_last => {
                    return self.settle(at, review, document, Decision::Dismiss);
                }
                Err(error) => return Err(format!("{told} at device {at}: {error}")),
                Ok(_) => {
                    self.note(format!("device {at}: {told}"));
                    self.devices[at].publish(&mut self.histories);
                    self.devices[at].catch_up();
                    return Ok(());
                }
            }
        }
        Err(format!("nobody may settle {review}"))
    }

    fn note(&mut self, line: String) {
        if self.print {
            eprintln!("{line}");
        }
        self.tail.push_back(line.chars().take(400).collect());
        if self.tail.len() > 30 {
            self.tail.pop_front();
        }
    }
}

/// What edits wrote to plain fields at the top, as seen now; null where they cleared one.
fn written<'a>(contents: impl Iterator<Item = &'a Content>) -> BTreeMap<String, Value> {
    let mut written = BTreeMap::new();
    for content in contents {
        match content {
            Content::Fields(fields) => written.extend(fields.clone()),
            Content::Ops { base: None, ops } => {
                written.extend(ops.iter().filter_map(|op| match op {
                    Op::Set { path, after, .. } => Some((path.to_string(), after.clone())),
                    Op::Remove { path } => Some((path.to_string(), Value::Null)),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    written.retain(|name, _| FIELDS.contains(&name.as_str()));
    written
}

/// A value without what reads as nothing: texts, lists and maps that were begun stay.
fn without_nothing(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.into_iter().map(|(key, value)| (key, without_nothing(value)));
            let nothing = [json!(""), json!([]), json!({}), json!(0), Value::Null];
            entries.filter(|(_, value)| !nothing.contains(value)).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nothing).collect(),
        value => value,
    }
}

fn json_map(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    }
}

fn somebody(random: &mut Random) -> Option<Identity> {
    let user = ["Ann", "Bo", "Cy"][random.index(3)];
    match random.below(8) {
        0 => None,
        1 => Some(Identity::user(user)),
        2..5 => Some(Identity::user(user).with_role("tech")),
        5..7 => Some(Identity::user(user).with_role("dispatch")),
        _ => Some(Identity::user(user).with_role("crm")),
    }
}
