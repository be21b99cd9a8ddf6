import CDICOM

/// The libraries that read DICOM and decode its frames, for `tomos doctor`.
public enum DICOMLibraries {
    public static var versions: [(name: String, version: String)] {
        [("DCMTK", String(cString: cdicom_dcmtk_version())), ("OpenJPEG", String(cString: cdicom_openjpeg_version())), ("CharLS", String(cString: cdicom_charls_version()))]
    }
}
