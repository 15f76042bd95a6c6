//! A consumer of access units that follows the gap rule and decodes strictly.

use super::TempDir;
use super::consumer::Delivery;
use amiquip::AmqpValue;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// Units without a gap, from a key unit on.
pub type Run = Vec<Arc<Delivery>>;

/// The header of a unit.
#[track_caller]
pub fn header(unit: &Delivery, name: &str) -> AmqpValue {
    let value = unit.headers().get(name);
    value
        .unwrap_or_else(|| panic!("no header {name} in {:?}", unit.headers()))
        .clone()
}

pub fn is_key(unit: &Delivery) -> bool {
    header(unit, "key") == AmqpValue::Boolean(true)
}

#[track_caller]
pub fn pts_us(unit: &Delivery) -> i64 {
    match header(unit, "pts_us") {
        AmqpValue::LongLongInt(us) => us,
        other => panic!("pts_us is {other:?}"),
    }
}

/// Cuts what came of one camera at the gaps. Panics if units came twice or out of order, or if the
/// first unit after a gap is not a key unit.
#[track_caller]
pub fn runs(units: &[Arc<Delivery>]) -> Vec<Run> {
    let mut runs: Vec<Run> = vec![];
    let mut before = None;
    for unit in units {
        let number = (unit.epoch(), unit.seq());
        assert!(before < Some(number), "{number:?} came after {before:?}");
        let goes_on = before == Some((number.0, number.1 - 1));
        if !goes_on {
            assert!(
                is_key(unit),
                "{}: after {before:?} comes {number:?}, which is no key unit",
                unit.camera_id()
            );
            runs.push(vec![]);
        }
        runs.last_mut().unwrap().push(Arc::clone(unit));
        before = Some(number);
    }
    runs
}

/// The longest run.
pub fn most_without_gap(units: &[Arc<Delivery>]) -> Run {
    let mut most: Run = vec![];
    let mut run: Run = vec![];
    for unit in units {
        let goes_on = run
            .last()
            .is_some_and(|last| (last.epoch(), last.seq() + 1) == (unit.epoch(), unit.seq()));
        if !goes_on {
            run.clear();
        }
        run.push(Arc::clone(unit));
        if run.len() > most.len() {
            most.clone_from(&run);
        }
    }
    most
}

/// Decodes each run with a decoder of its own, to which any error is fatal, and checks that each
/// unit gives one picture of the size that its message announces.
#[track_caller]
pub fn decode_strictly(runs: &[Run]) {
    let dir = TempDir::new("units");
    for run in runs {
        let bytes: Vec<u8> = run.iter().flat_map(|unit| unit.jpeg()).copied().collect();
        let file = dir.path().join("run");
        std::fs::write(&file, bytes).unwrap();
        let (id, first) = (run[0].camera_id(), run[0].seq());
        let codec = header(&run[0], "codec");
        let format = match &codec {
            AmqpValue::LongString(codec) if codec == "h265" => "hevc",
            _ => "h264",
        };
        let sizes = decoded(format, &file)
            .unwrap_or_else(|said| panic!("{id}: {} units from {first} on: {said}", run.len()));
        assert_eq!(sizes.len(), run.len(), "{id}: units from {first} on");
        let announced = (run[0].width(), run[0].height());
        assert!(
            run.iter()
                .all(|unit| (unit.width(), unit.height()) == announced),
            "{id}: one session has one size"
        );
        let bytes = announced.0 as usize * announced.1 as usize * 3 / 2;
        assert!(
            sizes.iter().all(|size| *size == bytes),
            "{id}: {announced:?}"
        );
    }
}

/// How many bytes each picture of this raw file has.
fn decoded(format: &str, file: &PathBuf) -> Result<Vec<usize>, String> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-err_detect", "explode"])
        .args(["-f", format, "-i"])
        .arg(file)
        .args(["-fps_mode", "passthrough", "-pix_fmt", "yuv420p"])
        .args(["-f", "framecrc", "pipe:1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !said.is_empty() {
        return Err(said.into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pictures = text.lines().filter(|line| !line.starts_with('#'));
    let size = |line: &str| line.split(',').nth(4)?.trim().parse().ok();
    Ok(pictures.map(|line| size(line).unwrap()).collect())
}
