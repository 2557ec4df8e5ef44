//! A document as it stands at some heads.

use std::collections::BTreeMap;

use automerge::iter::{ListRangeItem, MapRangeItem};
use automerge::{
    Automerge, AutomergeError, ChangeHash, ObjId, ObjType, Prop, ROOT, ReadDoc, Value as Stored,
};
use rejoin_core::ActorId;
use rejoin_core::limits::DEPTH_MAX;
use rejoin_core::lineage::Marks;
use serde_json::{Map, Value};

use super::effective::{Effective, Item};
use super::marker::{COUNTER, TEXT, from_scalar, marked};

/// A document at its own heads, or at older ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    doc: &'a Automerge,
    heads: Option<&'a [ChangeHash]>,
    marks: &'static Marks,
    /// The values that do not read as Automerge shows them.
    effective: Option<&'a Effective>,
}

/// The value that is found at one key or list index.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// As JSON.
    Scalar(Value),
    Counter(i64),
    Object(ObjType, ObjId),
    /// A list item that does not show. A twin's value is given: it goes when the other goes.
    Hidden(Option<Value>),
}

/// The document as JSON: see [the rules](crate::value).
pub(crate) fn to_json(
    doc: &Automerge,
    heads: Option<&[ChangeHash]>,
    marks: &'static Marks,
) -> Value {
    let at = At::new(doc, heads, marks);
    Value::Object(at.map(&ROOT, 0))
}

/// The document as people should see it, or saw it at these heads.
pub(crate) fn to_effective_json(
    doc: &Automerge,
    heads: Option<&[ChangeHash]>,
    effective: &Effective,
    marks: &'static Marks,
) -> Value {
    let at = At::new(doc, heads, marks).with(Some(effective));
    Value::Object(at.map(&ROOT, 0))
}

/// The indices of the list items that show, by the operations that Automerge names them by.
pub(crate) fn shown_items(
    doc: &Automerge,
    effective: Option<&Effective>,
    marks: &'static Marks,
) -> BTreeMap<(u64, ActorId), usize> {
    let mut numbers = BTreeMap::new();
    let at = At::new(doc, None, marks).with(effective);
    at.number(Found::Object(ObjType::Map, ROOT), 0, &mut numbers);
    numbers
}

impl<'a> At<'a> {
    pub(crate) fn new(
        doc: &'a Automerge,
        heads: Option<&'a [ChangeHash]>,
        marks: &'static Marks,
    ) -> Self {
        Self { doc, heads, marks, effective: None }
    }

    /// The same, reading effective values.
    pub(crate) fn with(self, effective: Option<&'a Effective>) -> Self {
        Self { effective, ..self }
    }

    /// The value at `prop`. Of several concurrent values a container comes before a counter and
    /// that before a scalar, so that no container is ever hidden; of several of one kind it is the
    /// one that Automerge shows.
    pub(crate) fn find(&self, object: &ObjId, prop: impl Into<Prop>) -> Option<Found> {
        let prop = prop.into();
        if let (Prop::Map(key), Some(effective)) = (&prop, self.effective)
            && let Some(value) = effective.keys(object).and_then(|keys| keys.get(key))
        {
            return value.clone().map(Found::Scalar);
        }
        self.shown(object, prop)
    }

    /// The value that Automerge shows at `prop`.
    fn shown(&self, object: &ObjId, prop: impl Into<Prop>) -> Option<Found> {
        let values = match self.heads {
            None => self.doc.get_all(object, prop),
            Some(heads) => self.doc.get_all_at(object, prop, heads),
        };
        let found = values.ok()?.into_iter().map(|(value, id)| Found::from_stored(value, id));
        found.max_by_key(Found::rank)
    }

    /// The plain values at a key, each with the operation that wrote it; none if a container or
    /// counter stands there, too.
    pub(crate) fn plain(&self, map: &ObjId, key: &str) -> Vec<(Value, ObjId)> {
        let values = match self.heads {
            None => self.doc.get_all(map, key),
            Some(heads) => self.doc.get_all_at(map, key, heads),
        };
        let values = values.unwrap_or_default().into_iter();
        let plain = values.map(|(value, id)| match Found::from_stored(value, id.clone()) {
            Found::Scalar(value) => Some((value, id)),
            _ => None,
        });
        plain.collect::<Option<_>>().unwrap_or_default()
    }

    /// A value that people see at a key and that does not count yet, for a caller that edits it.
    pub(crate) fn uncounted(&self, map: &ObjId, key: &str) -> Option<&'a Value> {
        self.effective?.uncounted(map, key)
    }

    /// The keys of a map and their values.
    pub(crate) fn entries(&self, map: &ObjId) -> Vec<(String, Found)> {
        let entry = |item: MapRangeItem<'_>| {
            let key = item.key.clone().into_owned();
            let found = if item.conflict { self.find(map, key.as_str()) } else { None };
            let found =
                found.unwrap_or_else(|| Found::from_stored(item.value.clone().into(), item.id()));
            (key, found)
        };
        let shown: Vec<_> = match self.heads {
            None => self.doc.map_range(map, ..).map(entry).collect(),
            Some(heads) => self.doc.map_range_at(map, .., heads).map(entry).collect(),
        };
        let Some(keys) = self.effective.and_then(|effective| effective.keys(map)) else {
            return shown;
        };
        let shown = shown.into_iter().filter(|(key, _)| !keys.contains_key(key));
        let standing = keys.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        let standing = standing.map(|(key, value)| (key.clone(), Found::Scalar(value.clone())));
        shown.chain(standing).collect()
    }

    /// The items of a list, also those that were removed.
    pub(crate) fn items(&self, list: &ObjId) -> Vec<Found> {
        self.each_item(list, |_, found| found)
    }

    fn each_item<T>(&self, list: &ObjId, take: impl Fn(&ListRangeItem<'_>, Found) -> T) -> Vec<T> {
        let item = |item: ListRangeItem<'_>| {
            let shown = || {
                let found = if item.conflict { self.shown(list, item.index) } else { None };
                found.unwrap_or_else(|| Found::from_stored(item.value.clone().into(), item.id()))
            };
            let found = match self.effective.and_then(|effective| effective.item(&item.id())) {
                None => shown(),
                Some(Item::Value(value)) => Found::Scalar(value.clone()),
                Some(Item::Hidden) => Found::Hidden(None),
                Some(Item::Twin) => match shown() {
                    Found::Scalar(value) => Found::Hidden(Some(value)),
                    other => other,
                },
            };
            take(&item, found)
        };
        match self.heads {
            None => self.doc.list_range(list, ..).map(item).collect(),
            Some(heads) => self.doc.list_range_at(list, .., heads).map(item).collect(),
        }
    }

    /// Numbers the items that show, in `found` and in all that is in it.
    fn number(&self, found: Found, depth: usize, numbers: &mut BTreeMap<(u64, ActorId), usize>) {
        let Found::Object(kind, id) = found else { return };
        if depth == DEPTH_MAX {
            return;
        }
        match kind {
            ObjType::Text => {}
            ObjType::Map | ObjType::Table => {
                let entries = self.entries(&id).into_iter();
                entries.for_each(|(_, found)| self.number(found, depth + 1, numbers));
            }
            ObjType::List => {
                let mut items = self.each_item(&id, |item, found| (item.id(), found));
                items.retain(|(_, found)| self.shows(found));
                for (index, (id, found)) in items.into_iter().enumerate() {
                    if let ObjId::Id(counter, actor, _) = id {
                        numbers.insert((counter, ActorId(actor.to_bytes().to_vec())), index);
                    }
                    self.number(found, depth + 1, numbers);
                }
            }
        }
    }

    fn shows(&self, found: &Found) -> bool {
        match found {
            Found::Hidden(_) => false,
            Found::Object(ObjType::Map | ObjType::Table, id) => !self.is_removed(id),
            _ => true,
        }
    }

    pub(crate) fn text(&self, text: &ObjId) -> Result<String, AutomergeError> {
        match self.heads {
            None => self.doc.text(text),
            Some(heads) => self.doc.text_at(text, heads),
        }
    }

    /// The length of a text in code points.
    pub(crate) fn text_len(&self, text: &ObjId) -> usize {
        match self.heads {
            None => self.doc.length(text),
            Some(heads) => self.doc.length_at(text, heads),
        }
    }

    /// The keys at which the document says that something was removed.
    pub(crate) fn marks(&self) -> &'static Marks {
        self.marks
    }

    /// Whether a map says that it was removed.
    pub(crate) fn is_removed(&self, map: &ObjId) -> bool {
        self.find(map, self.marks.removed).is_some_and(|found| found.is_true())
    }

    fn map(&self, map: &ObjId, depth: usize) -> Map<String, Value> {
        let entries = self.entries(map).into_iter();
        entries.filter_map(|(key, found)| Some((key, self.json(found, depth)?))).collect()
    }

    /// The item of a list as it is written, with markers; `None` if it is a plain value.
    pub(crate) fn item_written(&self, list: &ObjId, index: usize) -> Option<Value> {
        match self.shown(list, index)? {
            Found::Scalar(_) | Found::Hidden(_) => None,
            found => Some(self.written(found, 0)),
        }
    }

    fn written(&self, found: Found, depth: usize) -> Value {
        let (kind, id) = match found {
            Found::Scalar(value) => return value,
            Found::Hidden(value) => return value.unwrap_or_default(),
            Found::Counter(count) => return marked(COUNTER, count),
            Found::Object(..) if depth == DEPTH_MAX => return Value::Null,
            Found::Object(kind, id) => (kind, id),
        };
        match kind {
            ObjType::Text => marked(TEXT, self.text(&id).unwrap_or_default()),
            ObjType::List => {
                self.items(&id).into_iter().map(|item| self.written(item, depth + 1)).collect()
            }
            ObjType::Map | ObjType::Table => {
                let entries = self.entries(&id).into_iter();
                entries.map(|(key, found)| (key, self.written(found, depth + 1))).collect()
            }
        }
    }

    /// A found value as JSON, with its content; `None` for a removed map.
    pub(crate) fn content(&self, found: Found) -> Option<Value> {
        self.json(found, 0)
    }

    /// The value, unless it is a removed map.
    fn json(&self, found: Found, depth: usize) -> Option<Value> {
        let (kind, id) = match found {
            Found::Scalar(value) => return Some(value),
            Found::Counter(count) => return Some(Value::from(count)),
            Found::Hidden(_) => return None,
            Found::Object(kind, id) => (kind, id),
        };
        if depth == DEPTH_MAX {
            return Some(Value::Null);
        }
        match kind {
            ObjType::Text => Some(self.text(&id).map_or(Value::Null, Value::String)),
            ObjType::List => {
                let items = self.items(&id).into_iter();
                Some(items.filter_map(|item| self.json(item, depth + 1)).collect())
            }
            ObjType::Map | ObjType::Table => {
                let map = self.map(&id, depth + 1);
                let is_removed = map.get(self.marks.removed) == Some(&Value::Bool(true));
                (!is_removed).then_some(Value::Object(map))
            }
        }
    }
}

impl Found {
    fn from_stored(value: Stored<'_>, id: ObjId) -> Self {
        match value {
            Stored::Object(kind) => Self::Object(kind, id),
            Stored::Scalar(scalar) => match scalar.as_ref() {
                automerge::ScalarValue::Counter(count) => Self::Counter(i64::from(count)),
                scalar => Self::Scalar(from_scalar(scalar)),
            },
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        *self == Self::Scalar(Value::Bool(true))
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Scalar(_) | Self::Hidden(_) => 0,
            Self::Counter(_) => 1,
            Self::Object(..) => 2,
        }
    }
}
