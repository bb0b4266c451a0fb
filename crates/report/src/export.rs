//! Tables as others take them: CSV, Markdown, LaTeX with booktabs.

use crate::error::ReportError;
use crate::output;
use crate::tables::{Column, IDS, NONE, Table, Tables};
use std::path::{Path, PathBuf};

/// The folder of the tables in a run's.
pub(crate) const FOLDER: &str = "tables";

/// What a table is written as.
const EXTENSIONS: [&str; 3] = ["csv", "md", "tex"];

/// Writes every table as CSV, Markdown and LaTeX; returns the files. Tables of before that there are no more go, if they are there in
/// every format, as only this program leaves them; one that cannot be removed stays.
pub(crate) fn write(folder: &Path, tables: &Tables) -> Result<Vec<PathBuf>, ReportError> {
    let files = |id: &str| EXTENSIONS.map(|e| folder.join(FOLDER).join(format!("{id}.{e}")));
    let mut written = Vec::new();
    for table in tables.all() {
        debug_assert!(IDS.contains(&table.id));
        for (path, text) in files(table.id).into_iter().zip([csv(table), markdown(table), latex(table)]) {
            output::write(&path, text.as_bytes())?;
            written.push(path);
        }
    }
    let old = IDS.iter().filter(|id| tables.all().all(|table| table.id != **id));
    old.for_each(|id| output::take_away(&files(id)));
    Ok(written)
}

fn heads(table: &Table) -> impl Iterator<Item = &str> {
    table.columns.iter().map(|c| c.head.as_str())
}

fn csv(table: &Table) -> String {
    let field = |text: &str| {
        let text = if text == NONE { "" } else { text };
        let plain = !text.contains([',', '"', '\n']);
        if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
    };
    let line = |cells: Vec<String>| cells.join(",") + "\n";
    let mut text = line(heads(table).map(field).collect());
    table.rows.iter().for_each(|row| text += &line(row.iter().map(|cell| field(cell)).collect()));
    text
}

fn markdown(table: &Table) -> String {
    let cell = |text: &str| text.replace('\\', "\\\\").replace('|', "\\|");
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("**{}**\n\n", cell(&table.title));
    text += &line(heads(table).map(cell).collect());
    let side = |c: &Column| if c.numeric { "---:" } else { "---" }.to_owned();
    text += &line(table.columns.iter().map(side).collect());
    table.rows.iter().for_each(|row| text += &line(row.iter().map(|c| cell(c)).collect()));
    table.notes.iter().for_each(|note| text += &format!("\n{}\n", cell(note)));
    text
}

fn latex(table: &Table) -> String {
    let sides: String = table.columns.iter().map(|c| if c.numeric { 'r' } else { 'l' }).collect();
    let line = |cells: Vec<String>| format!("{} \\\\\n", cells.join(" & "));
    let mut text = "% needs \\usepackage{booktabs}\n\\begin{table}\n\\centering\n".to_owned();
    text += &format!("\\caption{{{}}}\n\\label{{tab:{}}}\n", escaped(&table.title), table.id);
    text += &format!("\\begin{{tabular}}{{{sides}}}\n\\toprule\n");
    text += &line(heads(table).map(escaped).collect());
    text += "\\midrule\n";
    let dash = |cell: &String| if cell == NONE { "--".to_owned() } else { escaped(cell) };
    table.rows.iter().for_each(|row| text += &line(row.iter().map(dash).collect()));
    text += "\\bottomrule\n\\end{tabular}\n";
    table.notes.iter().for_each(|note| text += &format!("\n\\footnotesize {}\n", escaped(note)));
    text + "\\end{table}\n"
}

/// Text in LaTeX's terms.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', letter]),
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '\u{b1}' => out += "$\\pm$",
            '\u{b5}' | '\u{3bc}' => out += "$\\mu$",
            '\u{2013}' => out += "--",
            '\u{2018}' => out.push('`'),
            '\u{2019}' => out.push('\''),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("t", "A & B", &[("name", false), ("value", true)]);
        table.rows = vec![
            vec!["a_1, b".to_owned(), "0.5 \u{b1} 0.1".to_owned()],
            vec!["c|d".to_owned(), "-".to_owned()],
        ];
        table.notes = vec!["50 % of it.".to_owned()];
        table
    }

    #[test]
    fn csv_is_quoted_and_has_empty_cells() {
        assert_eq!(csv(&table()), "name,value\n\"a_1, b\",0.5 \u{b1} 0.1\nc|d,\n");
    }

    #[test]
    fn markdown_keeps_its_bars() {
        let text = markdown(&table());
        assert!(text.contains("| name | value |\n| --- | ---: |\n"), "{text}");
        assert!(text.contains("| c\\|d | - |") && text.ends_with("\n50 % of it.\n"), "{text}");
    }

    #[test]
    fn latex_is_escaped() {
        let text = latex(&table());
        assert!(text.contains("\\caption{A \\& B}") && text.contains("\\begin{tabular}{lr}"), "{text}");
        assert!(
            text.contains("a\\_1, b & 0.5 $\\pm$ 0.1 \\\\\n") && text.contains("c|d & -- \\\\"),
            "{text}"
        );
        assert!(text.contains("50 \\% of it."), "{text}");
    }
}
