//! Names that a mistyped one may have meant.

/// Up to five of `names`, the nearest first: at most a third of the letters differ, or one contains the other.
#[must_use]
pub fn nearest<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let mut found: Vec<_> = names
        .into_iter()
        .map(|name| (distance(wanted, name), name))
        .filter(|(distance, name)| {
            distance * 3 <= wanted.chars().count().max(3)
                || name.contains(wanted)
                || (!name.is_empty() && wanted.contains(name))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|(_, name)| name).take(5).collect()
}

/// Levenshtein's distance, in characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_name() {
        assert_eq!(nearest("busybix", ["debian/13", "busybox"]), ["busybox"]);
        assert_eq!(nearest("debian", ["debian/13", "debian/12", "alpine"]), ["debian/12", "debian/13"]);
        assert!(nearest("windows", ["debian/13"]).is_empty());
    }

    #[test]
    fn distances_are_counted_in_characters() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("é", "e"), 1);
    }
}
