//! "Did you mean" for names in files.

/// A phrase that names the known word nearest to `name`, or nothing where none is near.
pub fn nearest(name: &str, known: &[&str]) -> String {
    known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .filter(|(distance, k)| *distance <= k.chars().count().max(3) / 2)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, k)| format!(" (nearest: `{k}`)"))
}
