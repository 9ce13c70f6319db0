use std::fs;

use super::*;

#[test]
fn the_service_list_is_read_back_and_invalid_lists_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("services");
    assert!(read_list(&path).unwrap().is_empty());
    let names: Vec<ServiceName> = ["ssh", "a-b", "ssh"].iter().map(|name| name.parse().unwrap()).collect();
    write_list(&path, &names).unwrap();
    assert_eq!(read_list(&path).unwrap(), ["a-b".parse().unwrap(), "ssh".parse().unwrap()]);
    fs::write(&path, "ssh\n\n").unwrap();
    assert!(read_list(&path).is_err());
}
