//! Signatures of both indexes, which cover the packages: each index has their checksums.

use super::index::{APK, OPKG};
use crate::{files, prelude::*};

/// Files with secret keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    /// For opkg: of usign or signify, without a passphrase, with the public key beside it (`x.sec`, `x.pub`).
    pub(crate) opkg: Option<PathBuf>,
    /// For apk: in PEM, as openssl makes it.
    pub(crate) apk: Option<PathBuf>,
}

/// What the public keys are called, on the web server and on routers.
const OPKG_PUBLIC: &str = "pkd.pub";
const APK_PUBLIC: &str = "pkd.pem";

impl Keys {
    /// Looks at the files before anything is built.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(key) = &self.opkg {
            for file in [key, &public_of(key)] {
                ensure!(
                    file.is_file(),
                    "{} is missing: signify-openbsd -G -n -p x.pub -s x.sec makes both keys",
                    file.display()
                );
            }
        }
        if let Some(key) = &self.apk {
            cmd!("openssl pkey -in {key} -noout").quiet().with_context(|| {
                format!("{} is no private key in PEM: openssl genrsa -out FILE 4096 makes one", key.display())
            })?;
        }
        Ok(())
    }

    /// Signs the indexes of a folder, and puts the public keys into the folder above it.
    pub(super) fn sign(&self, folder: &Path) -> Result<()> {
        let above = folder.parent().context("no folder above")?;
        if let Some(key) = &self.opkg {
            let (index, signature) = (folder.join(OPKG), folder.join(format!("{OPKG}.sig")));
            cmd!("signify-openbsd -S -s {key} -m {index} -x {signature}").quiet()?;
            let public = public_of(key);
            cmd!("signify-openbsd -V -q -p {public} -m {index} -x {signature}").quiet().with_context(
                || format!("{} is not the public key of {}", public.display(), key.display()),
            )?;
            files::copy(&public, &above.join(OPKG_PUBLIC))?;
        }
        if let Some(key) = &self.apk {
            let public = above.join(APK_PUBLIC);
            cmd!("openssl pkey -in {key} -pubout -out {public}").quiet()?;
            sign_apk(folder, key)?;
        }
        Ok(())
    }
}

fn public_of(secret: &Path) -> PathBuf {
    secret.with_extension("pub")
}

/// Puts the signature in front of the index: an archive of its own, without the blocks that would end it.
fn sign_apk(folder: &Path, key: &Path) -> Result<()> {
    let (index, name) = (folder.join(APK), format!(".SIGN.RSA256.{APK_PUBLIC}"));
    let signature = folder.join(&name);
    cmd!("openssl dgst -sha256 -sign {key} -out {signature} {index}").quiet()?;
    let length = 512 + fs::metadata(&signature)?.len().next_multiple_of(512);
    let (date, signed) = (super::date(), folder.join("signed"));
    let pack = format!(
        "tar --format=ustar --owner=0 --group=0 --numeric-owner --mode=0644 --mtime=@{date} -c {name} | head -c {length} | gzip --no-name --best > signed && cat {APK} >> signed"
    );
    cmd!("sh -c {pack}").current_dir(folder).quiet()?;
    fs::rename(signed, index)?;
    Ok(fs::remove_file(signature)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pkd-keys-{}-{name}", std::process::id()));
        files::empty(&folder).unwrap();
        folder
    }

    /// What a router does, with the tools that it has on a desk.
    #[test]
    fn both_indexes_are_verified_with_the_public_keys() {
        let root = folder("signed");
        let (feed, keys) = (root.join("feed/arch"), root.join("keys"));
        fs::create_dir_all(&feed).unwrap();
        fs::create_dir(&keys).unwrap();
        let [secret, public, pem] = ["x.sec", "x.pub", "x.pem"].map(|name| keys.join(name));
        cmd!("signify-openbsd -G -n -p {public} -s {secret}").quiet().unwrap();
        cmd!("openssl genrsa -out {pem} 2048").quiet().unwrap();
        fs::write(feed.join(OPKG), "Package: pkd\n").unwrap();
        // Any bytes.
        fs::write(feed.join(APK), "an index").unwrap();
        let plain = fs::read(feed.join(APK)).unwrap();
        let both = Keys { opkg: Some(secret), apk: Some(pem) };
        both.check().unwrap();
        both.sign(&feed).unwrap();
        let [opkg, apk] = [OPKG_PUBLIC, APK_PUBLIC].map(|name| root.join("feed").join(name));
        let (list, signature) = (feed.join(OPKG), feed.join("Packages.sig"));
        cmd!("signify-openbsd -V -q -p {opkg} -m {list} -x {signature}").quiet().unwrap();
        // The signature is the first part, the index the rest.
        let signed = fs::read(feed.join(APK)).unwrap();
        let (head, rest) = signed.split_at(signed.len() - plain.len());
        assert_eq!(rest, plain);
        let [head_file, rest_file, raw] = ["head.gz", "rest.gz", "raw"].map(|name| keys.join(name));
        fs::write(&head_file, head).unwrap();
        fs::write(&rest_file, rest).unwrap();
        let script =
            format!("gzip -dc '{}' | tail -c +513 | head -c 256 > '{}'", head_file.display(), raw.display());
        cmd!("sh -c {script}").quiet().unwrap();
        cmd!("openssl dgst -sha256 -verify {apk} -signature {raw} {rest_file}").quiet().unwrap();
        fs::write(&list, "Package: other\n").unwrap();
        assert!(cmd!("signify-openbsd -V -q -p {opkg} -m {list} -x {signature}").quiet().is_err());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_file_that_is_no_key_is_named() {
        let root = folder("no-key");
        let file = root.join("x.sec");
        for keys in
            [Keys { opkg: Some(file.clone()), apk: None }, Keys { opkg: None, apk: Some(file.clone()) }]
        {
            let error = format!("{:#}", keys.check().unwrap_err());
            assert!(error.contains("x.sec is "), "{error}");
        }
        fs::remove_dir_all(root).unwrap();
    }
}
