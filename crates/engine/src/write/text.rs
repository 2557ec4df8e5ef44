//! A text as the steps of an edit change it.

/// A text of the document, read as far as it is needed. Most edits need only its length, which
/// Automerge knows without a look at the characters.
#[derive(Debug)]
pub(super) struct Text {
    len: usize,
    content: Option<String>,
    /// The splices that were made while it was not read.
    unread: Vec<Splice>,
}

#[derive(Debug)]
struct Splice {
    index: usize,
    delete: usize,
    insert: String,
}

impl Text {
    pub(super) fn empty() -> Self {
        Self { len: 0, content: Some(String::new()), unread: Vec::new() }
    }

    /// A text of so many code points that is in the document.
    pub(super) fn of_len(len: usize) -> Self {
        Self { len, content: None, unread: Vec::new() }
    }

    /// In code points.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Its characters by now. `read` gives those of the document.
    pub(super) fn content(&mut self, read: impl FnOnce() -> String) -> &str {
        let content = self.content.get_or_insert_with(read);
        for splice in self.unread.drain(..) {
            splice.apply(content);
        }
        content
    }

    /// Replaces code points that are there.
    pub(super) fn splice(&mut self, index: usize, delete: usize, insert: &str) {
        self.len = self.len - delete + insert.chars().count();
        let splice = Splice { index, delete, insert: insert.to_owned() };
        match &mut self.content {
            Some(content) => splice.apply(content),
            None => self.unread.push(splice),
        }
    }
}

impl Splice {
    fn apply(&self, content: &mut String) {
        let start = byte_index(content, self.index);
        let end = start + byte_index(&content[start..], self.delete);
        content.replace_range(start..end, &self.insert);
    }
}

/// The byte at which the code point with this index begins; the end if there are not as many.
pub(super) fn byte_index(text: &str, index: usize) -> usize {
    text.char_indices().nth(index).map_or(text.len(), |(place, _)| place)
}
