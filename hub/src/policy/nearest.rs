//! The nearest right spelling of a word that is not one of those expected.

/// The one of `known` that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(MAX_CHARS).collect();
    let allowed = (word.len() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| {
            (
                distance(&word, &name.to_lowercase().chars().collect::<Vec<_>>()),
                name,
            )
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// `; did you mean …?`, or nothing.
pub(super) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// How many slips lie between two words: a letter too much, one too few, another one, or two that
/// changed places.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let other = last[j] + usize::from(a[i] != b[j]);
            let mut least = other.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

const MAX_CHARS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_word_meant_and_another_word_finds_none() {
        let known = ["value_only", "json"];
        assert_eq!(nearest("valueonly", known), Some("value_only"));
        assert_eq!(nearest("JSON", known), Some("json"));
        assert_eq!(nearest("binary", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest("nmae", ["name", "type"]), Some("name"));
        assert_eq!(
            nearest("secertBindign", ["secretBinding"]),
            Some("secretBinding")
        );
    }
}
