//! Texts that users read, kept word for word in `golden/`; `UPDATE_GOLDEN=1` writes them.

use std::fs;
use std::path::Path;

/// Holds that the diagnostics in `output` are the text of `golden/<name>.txt`, after `names` (what differs from run to
/// run, and what stands for it).
#[track_caller]
pub(crate) fn holds(name: &str, output: &str, names: &[(&str, &str)]) {
    let found = readable(output, names);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/acceptance/golden").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|update| update == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &found).unwrap();
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == found, "{} differs (UPDATE_GOLDEN=1 writes it).\nkept:\n{kept}\nfound:\n{found}", path.display());
}

/// Everything from the first error on, without the client's frame and its line breaks. Indented lines stay as they are.
fn readable(output: &str, names: &[(&str, &str)]) -> String {
    let errors = output.find("Error: ").map_or("", |start| &output[start..]);
    let mut lines: Vec<String> = Vec::new();
    for line in errors.lines() {
        let line = line.trim_start_matches(['│', '╷', '╵']);
        let line = if errors.contains('│') { line.strip_prefix(' ').unwrap_or(line) } else { line }.trim_end();
        let plain = |text: &str| !text.is_empty() && !text.starts_with(' ');
        match lines.last_mut() {
            Some(last) if plain(last) && plain(line) => *last += &format!(" {line}"),
            Some(last) if last.is_empty() && line.is_empty() => {}
            _ => lines.push(line.to_owned()),
        }
    }
    let text = names.iter().fold(lines.join("\n"), |text, (found, shown)| text.replace(found, shown));
    format!("{}\n", text.trim_end())
}
