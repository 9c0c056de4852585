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

/// Everything from the first error on, without the client's frame and its line breaks.
fn readable(output: &str, names: &[(&str, &str)]) -> String {
    let errors = output.find("Error: ").map_or("", |start| &output[start..]);
    let mut text = String::new();
    for line in errors.lines() {
        let line = line.trim_start_matches(['│', '╷', '╵']);
        let line = line.strip_prefix(' ').unwrap_or(line).trim_end();
        let joins = !line.is_empty() && !line.starts_with(' ') && !text.is_empty() && !text.ends_with('\n');
        if joins {
            text.push(' ');
        } else if !text.is_empty() && !text.ends_with("\n\n") {
            text.push('\n');
        }
        text += line;
        if line.starts_with(' ') || line.is_empty() {
            text.push('\n');
        }
    }
    for (found, shown) in names {
        text = text.replace(found, shown);
    }
    format!("{}\n", text.replace("\n\n\n", "\n\n").trim_end())
}
