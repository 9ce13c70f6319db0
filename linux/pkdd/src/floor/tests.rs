use super::*;

const KEY: &str = "0000000000000001";
const OTHER: &str = "0000000000000002";

fn key(text: &str) -> CacheId {
    text.parse().unwrap()
}

fn floor(time: u64, is_exact: bool) -> Floor {
    Floor { time: UnixSeconds(time), is_exact }
}

/// What is saved about one key, with nothing about others.
fn saved(time: u64, is_exact: bool) -> Saved {
    Saved { keys: BTreeMap::from([(key(KEY), floor(time, is_exact))]), ..Saved::default() }
}

/// Waits for the thread.
fn wait(path: &Path, is_it: impl Fn(&Saved) -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !is_it(&<Saved>::read(path).unwrap().unwrap()) {
        assert!(Instant::now() < limit, "not written");
        thread::yield_now();
    }
}

#[test]
fn the_thread_writes_the_floor_and_the_last_one_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("floor");
    let saver = <Saver>::start(path.clone(), None, Duration::ZERO, |error| panic!("{error}")).unwrap();
    saver.save(key(KEY), UnixSeconds(5));
    wait(&path, |found| *found == saved(5, false));
    saver.save(key(KEY), UnixSeconds(9));
    saver.finish(&BTreeMap::from([(key(KEY), floor(9, true))])).unwrap();
    assert_eq!(<Saved>::read(&path).unwrap(), Some(saved(9, true)));
}

#[test]
fn a_start_only_marks_the_file_and_an_end_without_a_knock_restores_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("floor");
    let (exact, inexact) = (true, false);
    // the key's floor at the start, the greatest accepted time, the floor at the end
    let table = [
        ((900, exact), None, (900, exact)),
        ((900, inexact), None, (900, inexact)),
        // From a clock that was wrong.
        ((u64::MAX, exact), None, (u64::MAX, exact)),
        ((0, inexact), Some((1_000, exact)), (1_000, exact)),
        ((900, exact), Some((1_000, exact)), (1_000, exact)),
        ((900, inexact), Some((1_000, exact)), (1_000, exact)),
        // Something later may have been lost, unless the floor was exact.
        ((0, inexact), Some((1_000, inexact)), (1_000, inexact)),
        ((900, inexact), Some((1_000, inexact)), (1_000, inexact)),
        ((900, exact), Some((1_000, inexact)), (1_000, exact)),
        // A number never falls.
        ((900, exact), Some((800, exact)), (900, exact)),
        ((900, inexact), Some((800, inexact)), (900, inexact)),
    ];
    for is_listed in [true, false] {
        for (row, (before, accepted, after)) in table.into_iter().enumerate() {
            let mut read = saved(before.0, before.1);
            if !is_listed {
                read = Saved { keys: BTreeMap::new(), other: floor(before.0, before.1) };
            }
            let mut expected = read.clone();
            if is_listed || accepted.is_some() {
                expected.keys.insert(key(KEY), floor(after.0, after.1));
            }
            let hour = Duration::from_hours(1);
            let saver = <Saver>::start(path.clone(), Some(read), hour, |error| panic!("{error}")).unwrap();
            let during = <Saved>::read(&path).unwrap().unwrap().of(key(KEY));
            assert_eq!(during, floor(before.0, inexact), "row {row}, {is_listed}");
            saver
                .finish(&accepted.map(|(time, is)| (key(KEY), floor(time, is))).into_iter().collect())
                .unwrap();
            assert_eq!(<Saved>::read(&path).unwrap(), Some(expected), "row {row}, {is_listed}");
        }
    }
}

#[test]
fn what_one_key_accepts_changes_no_other_floor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("floor");
    let mut read = saved(900, true);
    read.keys.insert(key(OTHER), floor(800, true));
    let saver = <Saver>::start(path.clone(), Some(read), Duration::ZERO, |error| panic!("{error}")).unwrap();
    saver.save(key(KEY), UnixSeconds(u64::MAX));
    wait(&path, |found| found.of(key(KEY)).time.0 == u64::MAX);
    assert_eq!(<Saved>::read(&path).unwrap().unwrap().of(key(OTHER)), floor(800, false));
    assert_eq!((saver.first(key(KEY)).0, saver.first(key(OTHER)).0), (900, 800));
    saver.finish(&BTreeMap::from([(key(KEY), floor(u64::MAX, true))])).unwrap();
    let last = <Saved>::read(&path).unwrap().unwrap();
    assert_eq!(last.of(key(OTHER)), floor(800, true));
    assert_eq!(last.of(key("0000000000000003")), floor(0, false), "a key that was never used");
}

#[test]
fn a_floor_is_implausible_more_than_a_day_and_the_widest_window_ahead_of_the_clock() {
    let (now, widest) = (UnixSeconds(1_000), Window::from_secs(10));
    for (time, is_plausible) in [(0, true), (87_410, true), (87_411, false), (u64::MAX, false)] {
        let floors = [("a", UnixSeconds(time)), ("b", now), ("c", UnixSeconds(time))];
        let problem = implausible(floors, now, widest);
        assert_eq!(problem.is_none(), is_plausible, "{time}");
        assert!(problem.is_none_or(|text| text.contains("pkdd reset-floor") && text.contains("(of a, c)")));
    }
    let last = UnixSeconds(u64::MAX);
    assert_eq!(implausible([("a", last)], last, widest), None);
}

#[test]
fn the_interval_between_writes_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("floor");
    let hour = Duration::from_hours(1);
    let saver = <Saver>::start(path.clone(), None, hour, |error| panic!("{error}")).unwrap();
    let written = || <Saved>::read(&path).unwrap().map(|saved| saved.of(key(KEY)).time.0);
    saver.save(key(KEY), UnixSeconds(1));
    let limit = Instant::now() + Duration::from_secs(20);
    while written() == Some(0) {
        assert!(Instant::now() < limit, "nothing was written");
        thread::yield_now();
    }
    let first = written();
    (2..100).for_each(|time| saver.save(key(KEY), UnixSeconds(time)));
    saver.finish(&BTreeMap::from([(key(KEY), floor(100, true))])).unwrap();
    assert_eq!((first, written()), (Some(1), Some(100)));
}

#[test]
fn a_floor_that_is_not_greater_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("floor");
    let (sender, errors) = mpsc::channel();
    let on_error = move |error: &io::Error| sender.send(error.to_string()).unwrap();
    let saver = <Saver>::start(path.clone(), None, Duration::ZERO, on_error).unwrap();
    saver.save(key(KEY), UnixSeconds(5));
    wait(&path, |found| found.of(key(KEY)).time == UnixSeconds(5));
    // From now on every write fails and is reported.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    for time in [5, 4, 0] {
        saver.save(key(KEY), UnixSeconds(time));
    }
    // The thread ends after it has handled all queued floors.
    assert!(saver.finish(&BTreeMap::new()).is_err());
    assert_eq!(errors.try_iter().collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn write_errors_are_reported() {
    let (sender, errors) = mpsc::channel();
    assert!(<Saver>::start("/proc/floor".into(), None, Duration::ZERO, |_| ()).is_err());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("floor");
    let on_error = move |error: &io::Error| sender.send(error.to_string()).unwrap();
    let saver = <Saver>::start(path.clone(), None, Duration::ZERO, on_error).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    saver.save(key(KEY), UnixSeconds(5));
    assert!(!errors.recv_timeout(Duration::from_secs(20)).unwrap().is_empty());
    assert!(saver.finish(&BTreeMap::new()).is_err());
}
