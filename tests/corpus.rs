//! Runs the properties of the fuzz targets over their corpus; `fuzz/` has both.

#[path = "../fuzz/properties.rs"]
mod properties;

use std::path::Path;

/// Runs `property` on each file of a target's corpus; on a failure the test's output ends with its
/// name.
fn holds(target: &str, property: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let files = std::fs::read_dir(folder.join(target)).unwrap();
    let mut count = 0;
    for file in files.map(|file| file.unwrap().path()) {
        println!("{}", file.display());
        property(&std::fs::read(file).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{count} files");
}

#[test]
fn the_splitter_holds_what_it_promises_for_the_whole_corpus() {
    holds("splitter", properties::splitter);
}

#[test]
fn the_cutting_into_units_holds_what_it_promises_for_the_whole_corpus() {
    holds("units", properties::units);
}

#[test]
fn the_jpeg_parser_holds_what_it_promises_for_the_whole_corpus() {
    holds("jpeg", properties::jpeg);
}

#[test]
fn the_configuration_loader_holds_what_it_promises_for_the_whole_corpus() {
    holds("config", properties::config);
}

#[test]
fn what_comes_from_the_broker_stays_within_its_bounds_for_the_whole_corpus() {
    holds("broker", properties::broker);
}
