import Archive
import DICOM
import ProjectionData
import Tomography

/// Why a reconstruction or a denoising was refused or failed; codes as everywhere in the product.
public struct LowDoseError: Error, Hashable, Sendable {
    public let code, message: String
    public init(_ code: String, _ message: String) { self.code = code; self.message = message }

    public init(_ error: any Error) {
        switch error {
        case let e as LowDoseError: self = e
        case let e as ProjectionError: self.init(e.code, e.message)
        case let e as TomographyError: self.init(ProjectionError(e))
        case let e as ArchiveError: self.init(e.code, e.message)
        case let e as DICOMError: self.init(e.code, e.message)
        case is CancellationError: self.init("cancelled", "The work was cancelled.")
        default: self.init("internal", String(describing: error))
        }
    }
}
