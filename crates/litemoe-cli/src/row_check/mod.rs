//! What is unusual about files of rows, before anything is computed with them.

mod overlaps;
mod repeats;
mod source;

use litemoe_text::RowFile;

pub(crate) use self::overlaps::Overlap;
pub(crate) use self::repeats::Repeats;
pub(crate) use self::source::Source;
use crate::output;

/// Reads the files and notes what is unusual about them.
pub(crate) fn note(sources: &[Source<'_>]) -> anyhow::Result<()> {
    let files = sources.iter().map(|source| Ok((*source, RowFile::read(source.path)?)));
    let files = files.collect::<anyhow::Result<Vec<_>>>()?;
    for warning in warnings(&files) {
        output::note(&format!("warning: {warning}"));
    }
    Ok(())
}

/// One sentence for each unusual property of the files.
pub(crate) fn warnings(files: &[(Source<'_>, RowFile)]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (source, file) in files {
        let (name, path, n_rows) = (source.name(), source.path.display(), file.rows.len());
        let few = source.few;
        if n_rows < few {
            let one = format!("{} alone", name.strip_suffix('s').unwrap_or(&name));
            let n = output::counted(n_rows, &one, &format!("{name} are few"));
            warnings.push(format!("{path}: {n}: with less than {few}, results are uncertain"));
        }
        warnings.extend(Repeats::of(file).warnings(&path.to_string()));
    }
    warnings.extend(Overlap::all(files).iter().map(Overlap::warning));
    warnings
}
