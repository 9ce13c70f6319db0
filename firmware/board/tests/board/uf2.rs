//! UF2 files, read by another's reader, and block by block as the specification has it.

use pkd_board::uf2::{BLOCK, Family, PAGE, blocks};

const ADDRESS: u32 = 0x101f_f000;

fn file(family: Family, bytes: &[u8]) -> Vec<u8> {
    blocks(family, ADDRESS, bytes).flatten().collect()
}

fn bytes(length: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().map(|byte| byte.wrapping_mul(7)).take(length).collect()
}

#[test]
fn another_reader_finds_the_same_bytes_at_the_same_address() {
    for (family, id) in [(Family::Image, 0xe48b_ff59), (Family::Data, 0xe48b_ff58)] {
        for length in [1, 255, 256, 257, 4_096, 110_292] {
            let bytes = bytes(length);
            let (read, families) = uf2_decode::convert_from_uf2(&file(family, &bytes)).unwrap();
            assert_eq!(read[..length], bytes, "{length}");
            assert_eq!(read.len(), length.next_multiple_of(PAGE), "{length}");
            assert!(read[length..].iter().all(|byte| *byte == 0xff), "{length}");
            assert_eq!(families.into_iter().collect::<Vec<_>>(), [(id, u64::from(ADDRESS))], "{length}");
        }
    }
    assert!(file(Family::Data, &[]).is_empty());
}

#[test]
fn every_block_is_whole_in_itself() {
    let file = file(Family::Data, &bytes(1_000));
    assert_eq!(file.len(), 4 * BLOCK);
    for (number, block) in (0_u32..).zip(file.chunks(BLOCK)) {
        let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().unwrap());
        let words = [0, 4, 8, 12, 16, 20, 24, 28].map(word);
        let at = ADDRESS + number * 256;
        assert_eq!(words, [0x0a32_4655, 0x9e5d_5157, 0x2000, at, 256, number, 4, 0xe48b_ff58]);
        assert_eq!(word(508), 0x0ab1_6f30);
        assert!(block[288..508].iter().all(|byte| *byte == 0));
    }
}
