public import Imaging
public import Phantoms

extension CTSeries {
    /// The phantom as a series: `volume` is `phantom.volume()`.
    public init(phantom: ThoraxPhantom, volume: Volume) {
        self.init(volume, studyInstanceUID: phantom.studyUID)
        patientName = "Phantom^Thorax"
        patientID = "TOMOS-PHANTOM-\(phantom.seed)"
        studyDescription = "Synthetic chest and abdomen"
        seriesDescription = "Thorax phantom \(phantom.columns)x\(phantom.rows)x\(phantom.slices)"
        model = "Thorax phantom 1"
        bodyPart = "CHEST"
        comments = "Computed, not acquired. No patient."
    }
}
