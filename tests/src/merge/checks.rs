//! A device compared with the fold.

use std::collections::{BTreeMap, BTreeSet};

use rejoin::history::{Candidate, FieldPath};
use rejoin::review::Question;
use rejoin::view::FieldState;
use rejoin::{ChangeHash, Path, ReviewId};
use rejoin_core::schema::{Kind, Rule, Schema};
use rejoin_engine::store::{CandidateRow, ReviewKind, ReviewRow, SettledRow};
use serde_json::Value;

use super::device::{DOCUMENTS, Device, JOB, SCHEMA, collection, id, space};
use super::fold::{Asked, Choice, Fold};
use super::history::{History, Place, Set};
use super::reading::{Read, counted, hidden, is_out_of_sight, lost, read};

/// What is compared, and what did not match.
pub type Check = Result<(), String>;

/// Compares devices with the fold.
#[derive(Debug, Default)]
pub struct Checker {
    /// By the changes of the schema's document.
    folds: BTreeMap<Set, [Fold; 2]>,
    /// Whether another program writes, too. It knows nothing of births.
    foreign: bool,
    /// How often each was found.
    pub found: BTreeMap<&'static str, u64>,
}

impl Checker {
    /// `foreign` if a program writes that knows Automerge only.
    pub fn new(foreign: bool) -> Self {
        Self { foreign, ..Self::default() }
    }

    /// The fold of the job and of its schema, where these changes of the schema are known.
    pub fn folds(&mut self, histories: &[History; 2], schema_known: &Set) -> &[Fold; 2] {
        let folds = self.folds.entry(schema_known.clone()).or_insert_with(|| {
            let mut schemas = Fold::new(id(SCHEMA), Schema::default());
            schemas.judge(&histories[SCHEMA]);
            let value = read(&histories[SCHEMA], &schemas, schema_known).value;
            let schema = match value["deleted"] == true || schema_known.is_empty() {
                true => Schema::default(),
                false => Schema::from_value(&value).0,
            };
            [Fold::new(id(JOB), schema), schemas]
        });
        for (fold, history) in folds.iter_mut().zip(histories) {
            fold.judge(history);
        }
        folds
    }

    /// Everything that a device shows and keeps is what the fold says.
    ///
    /// # Errors
    /// What is not.
    pub fn check(&mut self, device: &mut Device, histories: &[History; 2]) -> Check {
        let mut rows = BTreeMap::new();
        self.folds(histories, &device.known[SCHEMA]);
        let folds = self.folds.remove(&device.known[SCHEMA]).expect("it was just made");
        for document in [JOB, SCHEMA] {
            if device.known[document].is_empty() {
                continue;
            }
            let (history, set) = (&histories[document], device.known[document].clone());
            let at = At { document, history, fold: &folds[document], set: &set };
            let read = read(at.history, at.fold, at.set);
            if !self.foreign {
                same("what is gone for good", &lost(history, &set), &Vec::new())?;
            }
            at.check_blame(device)?;
            self.check_view(&at, device, &read)?;
            device.catch_up();
            let counted = counted(at.history, at.fold, at.set);
            at.check_stored(device, &read.value, &counted)?;
            let often = [
                ("values that do not count", u64::from(counted != read.value)),
                ("conversions", at.history.conversions(at.set)),
                ("corrections", at.fold.corrections(at.history, at.set)),
            ];
            for (what, often) in often {
                *self.found.entry(what).or_default() += often;
            }
            self.expect_reviews(&at, &read, &mut rows);
        }
        self.folds.insert(device.known[SCHEMA].clone(), folds);
        let view = device.engine.store().read().map_err(|error| error.to_string())?;
        let stored = view.reviews(&space()).map_err(|error| error.to_string())?;
        same_entries("the stored reviews", &stored.into_iter().collect(), &rows)
    }

    fn check_view(&mut self, at: &At<'_>, device: &mut Device, read: &Read) -> Check {
        let view = device.engine.view(0, &id(at.document)).map_err(|error| error.to_string())?;
        same("the value", &view.value, &read.value)?;
        same("the heads", &view.heads, &at.history.heads(at.set))?;
        let mut fields = at.plain_fields(&read.value);
        for (place, asked) in at.questions() {
            let held = at.held(&place, read);
            let states = asked.iter().map(|asked| at.state(&place, asked)).collect();
            let name = read.name(&at.history.path(&place));
            let field = fields.entry(name).or_insert((held, Vec::new()));
            field.1.retain(|state| *state != FieldState::Agreed);
            field.1.extend::<Vec<FieldState>>(states);
        }
        let mut shown = BTreeMap::new();
        for (name, field) in view.fields {
            let states = field.states.into_iter().map(|state| match state {
                FieldState::Misfit { .. } => FieldState::Misfit { reason: String::new() },
                state => state,
            });
            shown.insert(name, (field.value, states.collect()));
        }
        same_entries("the fields", &shown, &fields)
    }

    /// The question that a write settles, unless its decision was taken back.
    fn settles(&mut self, at: &At<'_>, place: &Place, write: usize) -> Option<Question> {
        let question = at.fold.judged(place, write).settles?;
        let change = at.history.writes(place)[write].change;
        let is_reopened = at.fold.is_reopened(at.history, place, change, at.set);
        *self.found.entry("reopened").or_default() += u64::from(is_reopened);
        (!is_reopened).then_some(question)
    }

    fn expect_reviews(
        &mut self,
        at: &At<'_>,
        read: &Read,
        rows: &mut BTreeMap<ReviewId, ReviewRow>,
    ) {
        // Of several decisions the one with the smallest hash tells how it was settled.
        let mut settled = BTreeMap::new();
        for place in at.history.places() {
            for (write_at, write) in at.history.writes(place).iter().enumerate() {
                let change = &at.history.changes[write.change];
                let Some(said) = change.said.as_ref().filter(|_| at.set.contains(&write.change))
                else {
                    continue;
                };
                let Some(question) = self.settles(at, place, write_at) else { continue };
                *self.found.entry("settled").or_default() += 1;
                let by = row(&at.candidate(write.change, write.value.clone()));
                let (dismissed, why) = (said.dismissed, said.why.clone());
                let path = at.history.path(place);
                let row = ReviewRow {
                    settled: Some(SettledRow { by, dismissed, why, document: None }),
                    ..at.row(question, &path)
                };
                settled.insert((said.review, std::cmp::Reverse((change.hash, path))), row);
            }
        }
        for place in at.history.places_discarded() {
            for discard in at.fold.discarded(at.history, place, at.set) {
                let change = &at.history.changes[discard];
                let Some(said) = &change.said else { continue };
                *self.found.entry("settled").or_default() += 1;
                let by = row(&at.candidate(discard, None));
                let (dismissed, why) = (said.dismissed, said.why.clone());
                let path = at.history.path(place);
                let row = ReviewRow {
                    settled: Some(SettledRow { by, dismissed, why, document: None }),
                    ..at.row(Question::Containers, &path)
                };
                settled.insert((said.review, std::cmp::Reverse((change.hash, path))), row);
            }
        }
        rows.extend(settled.into_iter().map(|((review, _), row)| (review, row)));
        for (place, asked) in at.questions() {
            let standing = at.standing(&place, read);
            let is_open = |write: &usize| at.fold.judged(&place, *write).goes_back;
            let open = at.fold.open(at.history, &place, at.set);
            let back = open.iter().filter(|write| is_open(write)).count();
            *self.found.entry("steps back").or_default() += back as u64;
            for asked in asked {
                *self.found.entry(called(asked.question)).or_default() += 1;
                // What somebody wrote who may not stands nowhere.
                let standing = match asked.question {
                    Question::Refused if !at.history.holds_merging(&place, at.set) => {
                        at.fold.counted(at.history, &place, at.set)
                    }
                    _ => standing.clone(),
                };
                let row = ReviewRow {
                    standing: standing.as_ref().map(bytes),
                    candidates: at.candidates(&asked).iter().map(row).collect(),
                    ..at.row(asked.question, &at.history.path(&place))
                };
                let review = at.fold.review(at.history, &place, asked.question, at.set);
                rows.insert(review, row);
            }
        }
    }
}

/// A document where some of its changes are known.
struct At<'a> {
    document: usize,
    history: &'a History,
    fold: &'a Fold,
    set: &'a Set,
}

/// What stands at fields of one name, and what was written to them by which change.
type Blamed = (BTreeSet<Option<String>>, BTreeMap<ChangeHash, rejoin::history::BlamedWrite>);

type Fields = BTreeMap<String, (Option<Value>, Vec<FieldState>)>;

impl At<'_> {
    fn questions(&self) -> Vec<(Place, Vec<Asked>)> {
        let asked = |place: &Place| {
            if is_out_of_sight(self.history, self.set, place) {
                return None;
            }
            let mut asked = self.fold.asked(self.history, place, self.set);
            let candidates = self.hidden(place);
            if !candidates.is_empty() {
                asked.insert(0, Asked { question: Question::Containers, candidates });
            }
            (!asked.is_empty()).then(|| (place.clone(), asked))
        };
        let history = self.history;
        let places: BTreeSet<&Place> =
            history.places().chain(history.places_made_twice()).collect();
        places.into_iter().filter_map(asked).collect()
    }

    fn hidden(&self, place: &Place) -> Vec<Choice> {
        hidden(self.history, self.fold, self.set, place)
    }

    /// What stands at a field: of containers the one that reads, whatever else is there.
    fn standing(&self, place: &Place, read: &Read) -> Option<Value> {
        match self.history.holds_merging(place, self.set) {
            true => read.at(&self.history.path(place)).cloned(),
            false => self.fold.value(self.history, place, self.set),
        }
    }

    /// What a field reads as; what stands there, if it does not show.
    fn held(&self, place: &Place, read: &Read) -> Option<Value> {
        let shown = read.at(&self.history.path(place)).cloned();
        shown.or_else(|| self.standing(place, read))
    }

    fn state(&self, place: &Place, asked: &Asked) -> FieldState {
        let (question, candidates) = (asked.question, self.candidates(asked));
        let review = self.fold.review(self.history, place, question, self.set);
        match question {
            Question::Refused => FieldState::Refused { review, candidates },
            _ => FieldState::Conflict { review, question, candidates },
        }
    }

    fn candidates(&self, asked: &Asked) -> Vec<Candidate> {
        let candidates = asked.candidates.iter().map(|choice| Candidate {
            change: self.history.changes[choice.change].hash,
            ..self.candidate(choice.by, choice.value.clone())
        });
        let mut candidates: Vec<_> = candidates.zip(&asked.candidates).collect();
        // The oldest first, and whoever knew of another after it. What every device makes alike knows
        // nothing.
        let times: Vec<_> = candidates.iter().map(|(it, of)| (of.change, it.time_s)).collect();
        candidates.sort_by_key(|(candidate, of)| {
            let change = &self.history.changes[of.change];
            let is_known = |(other, _): &&(usize, i64)| {
                let is_alike = change.reserved || self.history.changes[*other].reserved;
                !is_alike && change.ancestors.contains(other)
            };
            let known: Vec<_> = times.iter().filter(is_known).map(|(_, time_s)| *time_s).collect();
            let latest = known.iter().copied().max().unwrap_or(i64::MIN);
            (candidate.time_s.max(latest), known.len(), candidate.change)
        });
        candidates.into_iter().map(|(candidate, _)| candidate).collect()
    }

    fn candidate(&self, change: usize, value: Option<Value>) -> Candidate {
        let change = &self.history.changes[change];
        let said = change.said.as_ref().map(|said| said.review);
        Candidate {
            change: change.hash,
            value,
            author: change.identity.clone(),
            time_s: change.time_s,
            settles: said,
        }
    }

    fn row(&self, question: Question, place: &FieldPath) -> ReviewRow {
        let kind = match question {
            Question::Conflict => ReviewKind::FieldConflict,
            Question::Disagreement => ReviewKind::Disagreement,
            Question::Refused => ReviewKind::RefusedWrite,
            Question::Removal => ReviewKind::Removal,
            Question::Hidden => ReviewKind::Hidden,
            Question::Containers => ReviewKind::Containers,
        };
        let document = rejoin::review::ReviewedDocument {
            document: id(self.document),
            key: Some(DOCUMENTS[self.document].1.to_owned()),
            booked_ms: None,
        };
        ReviewRow {
            kind,
            collection: collection(self.document),
            documents: vec![document],
            field: place.to_string(),
            standing: None,
            candidates: Vec::new(),
            settled: None,
        }
    }

    /// The fields at the top and those that the schema does not bear out, as if nothing were asked
    /// about them.
    fn plain_fields(&self, value: &Value) -> Fields {
        let mut fields = Fields::new();
        let mut places = vec![(Path::ROOT, value)];
        while let Some((path, value)) = places.pop() {
            if self.misfits(&path, value) {
                let held = FieldState::Misfit { reason: String::new() };
                fields.insert(path.to_string(), (Some(value.clone()), vec![held]));
            } else if path.segments().len() == 1 {
                let agreed = vec![FieldState::Agreed];
                fields.insert(path.to_string(), (Some(value.clone()), agreed));
            }
            for (key, value) in value.as_object().into_iter().flatten() {
                places.push((path.join(key.as_str()), value));
            }
            for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                places.push((path.join(index), value));
            }
        }
        fields
    }

    fn misfits(&self, path: &Path, value: &Value) -> bool {
        let Some(field) = self.fold.schema().field(path) else { return false };
        let kind = match field.merge {
            Rule::Text => Some(Kind::String),
            Rule::Counter => Some(Kind::Integer),
            Rule::Set | Rule::List => Some(Kind::List),
            Rule::Map => Some(Kind::Map),
            _ => field.kind,
        };
        let fits = kind.is_none_or(|kind| kind.fits(value));
        match &field.merge {
            Rule::Order(order) => !fits || !order.iter().any(|known| value == known.as_str()),
            _ => !fits,
        }
    }

    /// Every write of every field, and what each took the place of.
    fn check_blame(&self, device: &mut Device) -> Check {
        let blame = device.engine.blame(0, &id(self.document)).map_err(|it| it.to_string())?;
        let mut told = BTreeMap::new();
        for blame in blame {
            let writes = blame.writes.into_iter().map(|mut write| {
                write.superseded.sort();
                (write.write.change, write)
            });
            // Two maps at one key have fields of the same name.
            let told: &mut Blamed = told.entry(blame.place).or_default();
            told.0.insert(blame.value.map(|value| value.to_string()));
            told.1.extend(writes);
        }
        let mut expected: BTreeMap<_, Blamed> = BTreeMap::new();
        for place in self.history.places() {
            let open = self.fold.open(self.history, place, self.set);
            let stands = self.fold.stands(self.history, place, self.set);
            let hash =
                |at: &usize| self.history.changes[self.history.writes(place)[*at].change].hash;
            let mut writes = BTreeMap::new();
            for (at, write) in self.history.writes(place).iter().enumerate() {
                if !self.set.contains(&write.change) {
                    continue;
                }
                let judged = self.fold.judged(place, at);
                let mut superseded: Vec<_> = judged.closes.iter().map(hash).collect();
                superseded.sort();
                let blamed = rejoin::history::BlamedWrite {
                    write: self.candidate(write.change, write.value.clone()),
                    op: write.op.clone(),
                    stands: stands == Some(at),
                    superseded,
                    open: open.contains(&at),
                    refused: judged.refused,
                };
                writes.insert(blamed.write.change, blamed);
            }
            if !writes.is_empty() {
                let value = self.fold.value(self.history, place, self.set);
                let expected = expected.entry(self.history.path(place)).or_default();
                expected.0.insert(value.map(|value| value.to_string()));
                expected.1.extend(writes);
            }
        }
        for (place, (value, writes)) in &expected {
            let Some((told_value, told)) = told.get(place) else {
                return Err(format!("nobody is told to have written {place}: {writes:?}"));
            };
            same_entries(&format!("who wrote {place}"), told, writes)?;
            same(&format!("what stands at {place}"), told_value, value)?;
        }
        same("the fields that were written", &told.len(), &expected.len())
    }

    fn check_stored(&self, device: &Device, value: &Value, counted: &Value) -> Check {
        let view = device.engine.store().read().map_err(|error| error.to_string())?;
        let stored = view.value(&id(self.document)).map_err(|error| error.to_string())?;
        let stored = stored.ok_or("no value is stored")?;
        let json: Value = serde_json::from_slice(&stored.json).map_err(|it| it.to_string())?;
        same("the stored value", &json, value)?;
        let agreed = serde_json::from_slice(stored.agreed()).map_err(|it| it.to_string())?;
        same("what of it counts", &agreed, counted)?;
        same("what is stored of a deletion", &stored.deleted, &(value["deleted"] == true))?;
        let mut heads = stored.heads;
        heads.sort_unstable();
        same("the heads of the stored value", &heads, &self.history.heads(self.set))
    }
}

fn called(question: Question) -> &'static str {
    match question {
        Question::Conflict => "conflicts",
        Question::Disagreement => "disagreements",
        Question::Refused => "refused",
        Question::Removal => "removals",
        Question::Hidden => "hidden values",
        Question::Containers => "hidden containers",
    }
}

fn row(candidate: &Candidate) -> CandidateRow {
    CandidateRow {
        change: candidate.change,
        value: candidate.value.as_ref().map(bytes),
        author: candidate.author.clone(),
        time_s: candidate.time_s,
        settles: candidate.settles,
    }
}

fn bytes(value: &Value) -> minicbor::bytes::ByteVec {
    value.to_string().into_bytes().into()
}

/// # Errors
/// The entries that differ.
fn same_entries<K, V>(what: &str, got: &BTreeMap<K, V>, expected: &BTreeMap<K, V>) -> Check
where
    K: Ord + std::fmt::Debug,
    V: PartialEq + std::fmt::Debug,
{
    let keys: BTreeSet<&K> = got.keys().chain(expected.keys()).collect();
    for key in keys {
        same(&format!("{what} at {key:?}"), &got.get(key), &expected.get(key))?;
    }
    Ok(())
}

/// # Errors
/// They differ.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, expected: &T) -> Check {
    if got == expected {
        return Ok(());
    }
    Err(format!("{what} differs\n  is     {got:?}\n  should {expected:?}"))
}
