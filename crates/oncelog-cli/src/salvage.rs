//! `salvage`: lists what is lost of a damaged store, and on request goes on without it.

use oncelog::Store;
use oncelog::salvage::{Damage, Gap, Remedy, SalvageReport};
use serde_json::{Value, json};

use crate::args::{Format, SalvageArgs};
use crate::exit::{self, Failure};
use crate::report::counted;

pub(crate) fn run(arguments: &SalvageArgs) -> Result<(), Failure> {
    let path = &arguments.inspect.directory;
    let report =
        if arguments.yes { Store::salvage(path)? } else { Store::builder().salvage_plan(path)? };
    let text = match arguments.inspect.format {
        Format::Human if report.is_sound() => "sound: nothing to salvage\n".to_owned(),
        Format::Human => report.to_string(),
        Format::Json => format!("{}\n", json(&report)),
    };
    exit::print(&text)?;
    if report.is_sound() || report.done {
        return Ok(());
    }
    let damages = counted(report.damages.len() as u64, "damaged file");
    Err(Failure::Corrupt(format!(
        "{damages} in the store at {}; nothing was changed; restore it from a copy, or add --yes \
         to go on without what is lost",
        path.display()
    )))
}

fn json(report: &SalvageReport) -> Value {
    json!({
        "sound": report.is_sound(),
        "done": report.done,
        "at_ms": report.at.as_millis(),
        "segments": report.segments,
        "records": report.records,
        "records_lost": report.lost_records(),
        "forgets": report.forgets(),
        "nameless_namespaces": report.nameless,
        "written_to": report.written_to.as_ref().map(|path| path.to_string_lossy()),
        "damages": report.damages.iter().map(damage).collect::<Vec<_>>(),
    })
}

fn damage(damage: &Damage) -> Value {
    json!({
        "path": damage.path.to_string_lossy(),
        "segment": damage.segment,
        "what": damage.what,
        "remedy": match damage.remedy {
            Remedy::Repaired => "repaired",
            Remedy::Rebuilt => "rebuilt",
            _ => "given up",
        },
        "kept_as": damage.kept_as.as_ref().map(|path| path.to_string_lossy()),
        "records_kept": damage.records_kept,
        "records_lost": damage.records_lost,
        "created_ms": damage.created.map(|moment| moment.as_millis()),
        "ends_ms": damage.ends.map(|moment| moment.as_millis()),
        "gaps": damage.gaps.iter().map(gap).collect::<Vec<_>>(),
    })
}

fn gap(gap: &Gap) -> Value {
    json!({
        "offset": gap.offset,
        "bytes": gap.bytes,
        "records": gap.records,
        "versions_after": gap.after.map(|version| version.as_u64()),
        "versions_before": gap.before.map(|version| version.as_u64()),
    })
}
