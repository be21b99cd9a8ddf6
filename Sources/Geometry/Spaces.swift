/// A coordinate space. Points, vectors and transforms carry one as a phantom type, so that
/// `voxelFromPatient * patientFromPixel` compiles and the reverse does not.
public protocol CoordinateSpace: Sendable {}

/// Index space of a volume: x counts columns, y rows, z slices. Integers are voxel centres; the first voxel is (0, 0, 0).
public enum Voxel: CoordinateSpace {}

/// Patient space in millimetres, DICOM LPS: +x towards the patient's left, +y posterior, +z to the head
/// (PS3.3 C.7.6.2.1.1).
public enum Patient: CoordinateSpace {}

/// Output picture: x counts columns, y rows, z along the viewing direction. Integers are pixel centres.
public enum Pixel: CoordinateSpace {}
