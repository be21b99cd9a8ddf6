/// Volume files of researchers that Tomos reads beside DICOM.
public enum ContainerFormat: String, Codable, Sendable, CaseIterable {
    /// NIfTI-1 and NIfTI-2 in one file, plain or gzip (nifti.nimh.nih.gov).
    case nifti
    /// Nearly raw raster data (teem.sourceforge.net/nrrd/format.html).
    case nrrd
    /// ITK's MetaImage.
    case metaImage

    /// Bytes of a file's beginning that `init(head:)` needs to see.
    public static let headLength = 4096

    /// The format by content, never by name; `nil` when the beginning of the file is none of them.
    public init?(head: [UInt8]) {
        if head.starts(with: Array("NRRD000".utf8)) { self = .nrrd; return }
        if NIfTIHeader.isNIfTI(head) { self = .nifti; return }
        if head.starts(with: [0x1f, 0x8b]), let inside = Inflater.prefix(of: head, count: NIfTIHeader.magicLength), NIfTIHeader.isNIfTI(inside) {
            self = .nifti; return
        }
        if MetaImageHeader.isMetaImage(head) { self = .metaImage; return }
        return nil
    }

    /// The format of the file at `path`; `nil` when it is unreadable or none of them.
    public init?(fileAt path: String) {
        guard let head = try? ContainerFile.read(path, upTo: Self.headLength) else { return nil }
        self.init(head: head)
    }
}
