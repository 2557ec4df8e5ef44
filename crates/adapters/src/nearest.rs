//! The name that somebody may have meant.

/// Of names that there are, the one that is most like another, if any is like it enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    let most = (wanted.len() / 3).max(1);
    let far = |known: &&str| distance(&wanted, &known.to_lowercase().chars().collect::<Vec<_>>());
    let nearest = known.into_iter().min_by_key(far)?;
    (far(&nearest) <= most).then_some(nearest)
}

/// `; did you mean "NAME"?`, if there is such a name.
pub(crate) fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let nearest = nearest(name, known).filter(|nearest| *nearest != name);
    nearest.map(|nearest| format!("; did you mean {nearest:?}?")).unwrap_or_default()
}

/// How many letters have to be changed, left out, added, or swapped with the next.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (at, letter) in one.iter().enumerate() {
        let mut row = vec![at + 1];
        for (place, wanted) in other.iter().enumerate() {
            let changed = rows[at][place] + usize::from(letter != wanted);
            let mut least = changed.min(rows[at][place + 1] + 1).min(row[place] + 1);
            let is_swapped =
                at > 0 && place > 0 && one[at - 1] == *wanted && other[place - 1] == *letter;
            if is_swapped {
                least = least.min(rows[at - 1][place - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_known_and_another_is_not() {
        let known = ["status", "phone", "starts_at", "mode"];
        for (name, meant) in [
            ("statsu", Some("status")),
            ("fone", None),
            ("moed", Some("mode")),
            ("phne", Some("phone")),
            ("Status", Some("status")),
            ("start_at", Some("starts_at")),
            ("colour", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
    }
}
