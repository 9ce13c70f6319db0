//! Lines of a serial line.

use pkd_board::console::{Command, Console, LineError};
use pkd_gateway::CONFIG_LIMIT;

type Outcome = Result<Command, LineError>;

fn type_in(console: &mut Console, text: &[u8]) -> Vec<Outcome> {
    text.iter().filter_map(|byte| console.on_byte(*byte)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}

#[test]
fn lines_are_commands_however_they_end() {
    for end in ["\n", "\r", "\r\n", "\n\n"] {
        let text = ["help", " status ", "", "restart", "stat", "config", "config x"].join(end) + end;
        let given = type_in(&mut Console::new(), text.as_bytes());
        let expected = [
            Ok(Command::Help),
            Ok(Command::Status),
            Ok(Command::Restart),
            Err(LineError::Unknown),
            Err(LineError::Size),
            Err(LineError::Size),
        ];
        assert_eq!(given, expected, "{end:?}");
    }
}

#[test]
fn a_configuration_arrives_in_lines_of_any_length() {
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(CONFIG_LIMIT).collect();
    for length in [1, 2, 160, CONFIG_LIMIT] {
        for digits in [2, 64, 256] {
            let mut console = Console::new();
            let hex = hex(&bytes[..length]).to_uppercase();
            let lines: Vec<&[u8]> = hex.as_bytes().chunks(digits).collect();
            let text = [format!("config {length}\n").as_bytes(), &lines.join(&b'\n'), b"\n"].concat();
            assert_eq!(type_in(&mut console, &text), [Ok(Command::Save)], "{length} in lines of {digits}");
            assert_eq!(console.received(), &bytes[..length]);
            console.forget();
            assert!(console.received().is_empty());
            assert_eq!(type_in(&mut console, b"status\n"), [Ok(Command::Status)]);
        }
    }
}

#[test]
fn a_configuration_that_goes_wrong_is_one_error_and_its_rest_is_skipped() {
    let rest = hex(&[0xab; 64]);
    let long = "0".repeat(257);
    let table = [
        ("not hexadecimal", "0g", LineError::Digits),
        ("half a byte", "012", LineError::Digits),
        ("beyond ASCII", "ää", LineError::Digits),
        ("a sign", "+1", LineError::Digits),
        ("too many bytes", "0102030405", LineError::TooMany),
        ("a line that is too long", &long, LineError::Length),
    ];
    for (name, line, expected) in table {
        let mut console = Console::new();
        let text = format!("config 4\n{line}\n{rest}\n{rest}\n");
        assert_eq!(type_in(&mut console, text.as_bytes()), [Err(expected)], "{name}");
        assert!(console.received().is_empty(), "{name}");
        let again = type_in(&mut console, b"config 2\n0102\n");
        assert_eq!((again, console.received()), (vec![Ok(Command::Save)], &[1, 2][..]), "{name}");
    }
}

#[test]
fn a_length_beyond_what_fits_is_refused_at_once() {
    for length in ["0", "4097", "-1", "99999999999999999999", "1 1", ""] {
        let text = format!("config {length}\n");
        assert_eq!(type_in(&mut Console::new(), text.as_bytes()), [Err(LineError::Size)], "{length}");
    }
}

#[test]
fn no_answer_repeats_what_was_sent() {
    let errors =
        [LineError::Length, LineError::Unknown, LineError::Size, LineError::Digits, LineError::TooMany];
    for error in errors {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text}");
    }
    // Noise of all kinds is no more than an error.
    let mut console = Console::new();
    let noise: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let outcomes = type_in(&mut console, &noise);
    assert!(outcomes.iter().all(Result::is_err) && !outcomes.is_empty());
}
