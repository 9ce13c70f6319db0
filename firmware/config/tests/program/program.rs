//! The program: its arguments, its exit codes, and its output file.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use pkd_gateway::{
    Config, RULES,
    update::{HEADER_LENGTH, Identity, Incoming, Policy, Version},
};

const GOOD: &str = include_str!("../../example.toml");

/// A folder with a valid configuration and its key. Dropping it removes the folder.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pkd-config-program-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("gateway.toml"), GOOD).unwrap();
        let key = path.join("pkd.key");
        fs::write(&key, "test").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        Self(path)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gateway-config"))
            .args(arguments)
            .current_dir(&self.0)
            .output()
            .unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn only_the_owner_can_read_the_output_even_if_the_file_existed() {
    for (row, before) in [None, Some(0o600), Some(0o644)].into_iter().enumerate() {
        let folder = Folder::new(&format!("mode-{row}"));
        let out = folder.0.join("gateway.bin");
        if let Some(mode) = before {
            // Longer than any configuration, so that leftovers would show.
            fs::write(&out, [b'x'; 5_000]).unwrap();
            fs::set_permissions(&out, fs::Permissions::from_mode(mode)).unwrap();
        }
        let output = folder.run(&["gateway.toml", "gateway.bin"]);
        assert!(output.status.success(), "row {row}: {output:?}");
        assert!(output.stderr.is_empty(), "row {row}: {output:?}");
        assert_eq!(mode(&out), 0o600, "row {row}");
        let config = Config::<RULES>::parse(&fs::read(&out).unwrap()).unwrap();
        assert_eq!(config.services.len(), 2, "row {row}");
        // The time that it was made has a byte like that now and then.
        assert!(!fs::read(&out).unwrap().ends_with(b"xxxxxxxx"), "row {row}");
    }
}

#[test]
fn a_failure_names_the_file_and_writes_nothing() {
    let table: [(&str, &[&str], &str); 8] = [
        ("no arguments", &[], "usage"),
        ("an unknown option", &["--bord", "x", "gateway.toml"], "--bord"),
        ("an unknown board", &["--board", "w5500", "gateway.toml"], "expected one of"),
        ("no serial line", &["--board", "nucleo-h743zi", "gateway.toml", "g.txt"], "g.txt"),
        ("UF2 for a board without a drive", &["--board", "nucleo-h743zi", "gateway.toml", "g.uf2"], "g.uf2"),
        ("three arguments", &["gateway.toml", "gateway.bin", "more"], "usage"),
        ("a missing file", &["other.toml", "gateway.bin"], "other.toml"),
        ("a missing folder", &["gateway.toml", "nowhere/gateway.bin"], "nowhere/gateway.bin"),
    ];
    let folder = Folder::new("failure");
    for (name, arguments, expected) in table {
        let output = folder.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("gateway-config: ") && text.contains(expected), "{name}: {text}");
        let others = ["gateway.toml", "pkd.key"];
        let written: Vec<_> =
            fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(written.iter().all(|name| others.iter().any(|other| name == other)), "{name}: {written:?}");
    }
}

/// An image of version 1.2.3.
fn image_for(board: &str) -> Vec<u8> {
    let mut image = [b"codePKD image\0\x01\0\x02\0\x03\0", board.as_bytes()].concat();
    image.resize(64, 0);
    image
}

#[test]
fn an_image_is_signed_with_the_key_whose_public_half_is_configured() {
    let folder = Folder::new("sign");
    let made = folder.run(&["keygen", "update.key"]);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(mode(&folder.0.join("update.key")), 0o600);
    // What it prints goes into the configuration as it is.
    let table = String::from_utf8(made.stdout).unwrap();
    fs::write(folder.0.join("gateway.toml"), format!("{GOOD}\n{table}")).unwrap();
    let output = folder.run(&["gateway.toml", "gateway.bin"]);
    assert!(output.status.success(), "{output:?}");
    let config = Config::<RULES>::parse(&fs::read(folder.0.join("gateway.bin")).unwrap()).unwrap();
    fs::write(folder.0.join("image.bin"), image_for("riscv32-virt")).unwrap();
    let output = folder.run(&["sign", "update.key", "image.bin", "image.pkd"]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "image.pkd: version 1.2.3 for riscv32-virt; send it with POST /update\n");
    let signed = fs::read(folder.0.join("image.pkd")).unwrap();
    let (header, image) = signed.split_first_chunk::<HEADER_LENGTH>().unwrap();
    let [running, new] = ["1.2.2", "1.2.3"].map(|text| Version::parse(text).unwrap());
    let running = &Identity::new("riscv32-virt", running).unwrap();
    let policy = Policy { key: config.update.as_ref(), running, capacity: 64 };
    let mut incoming = Incoming::accept(header, u32::try_from(signed.len()).unwrap(), &policy).unwrap();
    incoming.update(image).unwrap();
    assert_eq!(incoming.finish(), Ok(new));
}

#[test]
fn keys_are_never_replaced_and_every_mistake_is_named() {
    let folder = Folder::new("sign-failure");
    assert!(folder.run(&["keygen", "update.key"]).status.success());
    let key = fs::read(folder.0.join("update.key")).unwrap();
    let image = image_for("riscv32-virt");
    let files: [(&str, &[u8]); 8] = [
        ("image.bin", &image),
        ("empty.bin", b""),
        ("image.elf", b"\x7fELF..."),
        ("other.bin", b"an image"),
        ("twice.bin", &image.repeat(2)),
        ("unknown.bin", &image_for("riscv")),
        ("nucleo.bin", &image_for("nucleo-h743zi")),
        ("long.bin", &[&image[..], &vec![1; 1 << 20]].concat()),
    ];
    for (name, bytes) in files {
        fs::write(folder.0.join(name), bytes).unwrap();
    }
    fs::write(folder.0.join("open.key"), &key).unwrap();
    fs::set_permissions(folder.0.join("open.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let table: [(&[&str], &str); 13] = [
        (&["keygen", "update.key"], "update.key exists"),
        (&["sign", "update.key", "no.bin", "out"], "no.bin"),
        (&["sign", "update.key", "empty.bin", "out"], "empty.bin: it is empty"),
        (&["sign", "update.key", "image.elf", "out"], "the .bin beside it"),
        (&["sign", "update.key", "other.bin", "out"], "BOARD-update.bin"),
        (&["sign", "update.key", "twice.bin", "out"], "BOARD-update.bin"),
        (&["sign", "update.key", "unknown.bin", "out"], "unknown board \"riscv\""),
        (&["sign", "update.key", "nucleo.bin", "out"], "takes no updates"),
        (&["sign", "update.key", "long.bin", "out"], "too long"),
        (&["sign", "pkd.key", "image.bin", "out"], "keygen"),
        (&["sign", "open.key", "image.bin", "out"], "chmod 600"),
        (&["sign", "no.key", "image.bin", "out"], "no.key"),
        (&["sign", "update.key", "riscv32-virt", "1.2.3", "image.bin", "out"], "sign KEY IMAGE OUT"),
    ];
    for (arguments, expected) in table {
        let output = folder.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(!folder.0.join("out").exists(), "{arguments:?}");
    }
    assert_eq!(fs::read(folder.0.join("update.key")).unwrap(), key);
}

#[test]
fn a_board_with_a_drive_gets_uf2_at_the_place_of_its_configuration_and_others_get_its_bytes() {
    for board in
        pkd_board::BOARDS.iter().filter(|board| board.check(pkd_gateway::Mode::OneArm, false).is_ok())
    {
        let name = board.name;
        let folder = Folder::new(name);
        let output = folder.run(&["--board", name, "gateway.toml"]);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let has_drive = board.chip == pkd_board::Chip::Rp2350;
        let file = if has_drive { "gateway.uf2" } else { "gateway.bin" };
        assert!(said.starts_with(&format!("{file}: ")) && said.contains(name), "{said}");
        let bytes = fs::read(folder.0.join(file)).unwrap();
        assert_eq!(mode(&folder.0.join(file)), 0o600, "{name}");
        let bytes = if has_drive {
            let (bytes, families) = uf2_decode::convert_from_uf2(&bytes).unwrap();
            let place = u64::from(board.flash.base + board.flash.config);
            assert_eq!(families.into_iter().collect::<Vec<_>>(), [(0xe48b_ff58, place)], "{name}");
            bytes
        } else {
            bytes
        };
        assert_eq!(Config::<RULES>::parse(&bytes).unwrap().services.len(), 2, "{name}");
    }
}

#[test]
fn the_option_counts_more_than_the_file() {
    let folder = Folder::new("option");
    fs::write(folder.0.join("gateway.toml"), GOOD.replace("w5500-evb-pico2", "riscv32-virt")).unwrap();
    let output = folder.run(&["gateway.toml"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("riscv32-virt has two NICs"), "{said}");
    assert!(folder.run(&["--board", "w5500-evb-pico2", "gateway.toml"]).status.success());
}

#[test]
fn what_is_sent_to_the_serial_line_arrives_as_the_same_configuration() {
    use pkd_board::console::{Command, Console};
    let folder = Folder::new("commands");
    assert!(folder.run(&["gateway.toml", "gateway.txt"]).status.success());
    assert_eq!(mode(&folder.0.join("gateway.txt")), 0o600);
    let mut console = Console::new();
    let outcomes = fs::read(folder.0.join("gateway.txt")).unwrap().into_iter();
    let outcomes: Vec<_> = outcomes.filter_map(|byte| console.on_byte(byte)).collect();
    assert_eq!(outcomes, [Ok(Command::Save)]);
    assert_eq!(Config::<RULES>::parse(console.received()).unwrap().services.len(), 2);
}
