//! The rule's parts, and its layout.

use pkd_core::{Key, Rule, Tag, Window};

#[test]
fn a_rule_returns_its_parts() {
    for seconds in [0, 1, u32::MAX] {
        let window = Window::from_secs(seconds);
        let rule = Rule::new(Key::from_bytes([5; Key::LENGTH]), Tag(*b"SSHK"), window);
        assert_eq!((rule.key().as_bytes(), rule.tag(), rule.window()), (&[5; 40], Tag(*b"SSHK"), window));
    }
}

/// That of `struct xt_pkd_mtinfo`, which the kernel passes to Rust by reference.
#[test]
fn a_rule_has_the_layout_of_the_netfilter_match() {
    assert_eq!((size_of::<Rule>(), align_of::<Rule>()), (48, 4));
    let rule = Rule::new(Key::from_bytes([5; Key::LENGTH]), Tag(*b"SSHK"), Window::default());
    let (start, key) = (std::ptr::from_ref(&rule).addr(), std::ptr::from_ref(rule.key()).addr());
    assert_eq!(start, key, "the key is at offset 0");
}
