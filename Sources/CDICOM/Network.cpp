// DICOM network (PS3.7, PS3.8) through DCMTK: a provider that stores, answers searches and sends, and a user that echoes,
// searches, moves, gets and stores. Objects pass bit-preserving between line and disk.
#include "Internal.hpp"
#include "dcmtk/config/osconfig.h"
#include "dcmtk/dcmdata/dctk.h"
#include "dcmtk/dcmdata/dcjson.h"
#include "dcmtk/dcmdata/dcpath.h"
#include "dcmtk/dcmnet/diutil.h"
#include "dcmtk/dcmnet/dul.h"
#include "dcmtk/dcmnet/scppool.h"
#include "dcmtk/dcmnet/scpthrd.h"
#include "dcmtk/dcmnet/scu.h"
#include "dcmtk/oflog/oflog.h"
#include <algorithm>
#include <arpa/inet.h>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <functional>
#include <netinet/in.h>
#include <sstream>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

using namespace cdicom;

namespace {

/// What is offered and accepted for storage. Not HTJ2K: DCMTK 3.6.7 aborts an association on syntaxes it does not know.
const char *const storageSyntaxes[] = {
    UID_LittleEndianExplicitTransferSyntax, UID_LittleEndianImplicitTransferSyntax, UID_JPEGProcess14SV1TransferSyntax,
    UID_JPEGProcess14TransferSyntax, UID_JPEGProcess1TransferSyntax, UID_JPEGProcess2_4TransferSyntax,
    UID_JPEGLSLosslessTransferSyntax, UID_JPEGLSLossyTransferSyntax, UID_JPEG2000LosslessOnlyTransferSyntax,
    UID_JPEG2000TransferSyntax, UID_RLELosslessTransferSyntax, UID_DeflatedExplicitVRLittleEndianTransferSyntax};

/// Storage classes that the library knows, and those that the standard has added since.
bool isStorage(const char *uid) { return dcmIsaStorageSOPClassUID(uid) || strncmp(uid, "1.2.840.10008.5.1.4.1.1.", 24) == 0; }

/// The library's log goes nowhere: it would hold names of patients.
const bool isQuiet = [] {
    OFLog::configure(OFLogger::OFF_LOG_LEVEL);
    return true;
}();

OFList<OFString> plainSyntaxes() {
    OFList<OFString> list;
    list.push_back(UID_LittleEndianExplicitTransferSyntax);
    list.push_back(UID_LittleEndianImplicitTransferSyntax);
    return list;
}

/// A number of sub-operations in its 16 bits: larger ones stay at the end.
Uint16 count16(size_t count) { return Uint16(std::min<size_t>(count, 0xFFFF)); }

void check(const OFCondition &condition) {
    if (condition.bad()) throw Failure("network", "The peer or the line failed: %.200s.", condition.text());
}

std::string jsonOf(DcmDataset &data) {
    std::ostringstream text;
    DcmJsonFormatCompact format(OFFalse);
    text << "{";
    data.convertToUTF8();
    data.writeJson(text, format);
    text << "}";
    return text.str();
}

/// "tag=value" lines, tags as eight digits, to an identifier.
void fill(DcmItem &item, const char *lines) {
    std::istringstream text(lines);
    std::string line;
    while (std::getline(text, line)) {
        unsigned group, element;
        if (line.size() < 9 || sscanf(line.c_str(), "%4x%4x", &group, &element) != 2) continue;
        item.putAndInsertString(DcmTagKey(Uint16(group), Uint16(element)), line.c_str() + 9);
    }
}

std::unique_ptr<DcmSCU> user(const cdicom_peer &peer) {
    auto scu = std::make_unique<DcmSCU>();
    scu->setPeerHostName(peer.host);
    scu->setPeerPort(peer.port);
    scu->setPeerAETitle(peer.title);
    scu->setAETitle(peer.own_title);
    scu->setACSETimeout(peer.timeout);
    scu->setDIMSETimeout(peer.timeout);
    scu->setDIMSEBlockingMode(DIMSE_NONBLOCKING);
    scu->setMaxReceivePDULength(131072);
    return scu;
}

void connect(DcmSCU &scu) {
    check(scu.initNetwork());
    check(scu.negotiateAssociation());
}

/// Class, instance and transfer syntax of a file; false where it cannot be read.
struct Label { OFString sopClass, sopInstance, syntax; };
bool readLabel(const std::string &path, Label &label) {
    DcmFileFormat file;
    if (file.loadFileUntilTag(path.c_str(), EXS_Unknown, EGL_noChange, DCM_MaxReadLength, ERM_autoDetect, DCM_StudyDate).bad()) return false;
    file.getDataset()->findAndGetOFString(DCM_SOPClassUID, label.sopClass);
    file.getDataset()->findAndGetOFString(DCM_SOPInstanceUID, label.sopInstance);
    file.getMetaInfo()->findAndGetOFString(DCM_TransferSyntaxUID, label.syntax);
    return !label.sopClass.empty() && !label.sopInstance.empty() && !label.syntax.empty();
}

/// Whether objects in this syntax pass through a context of an uncompressed one without being decoded.
bool isPlain(const OFString &syntax) {
    return syntax == UID_LittleEndianExplicitTransferSyntax || syntax == UID_LittleEndianImplicitTransferSyntax ||
           syntax == UID_BigEndianExplicitTransferSyntax || syntax == UID_DeflatedExplicitVRLittleEndianTransferSyntax;
}

/// A decoded copy of a file in Explicit VR Little Endian, as long as this lives.
struct DecodedCopy {
    std::string path;
    DecodedCopy(const cdicom_provider_callbacks *callbacks, const std::string &original) {
        if (!callbacks) return;
        if (char *made = callbacks->decoded(callbacks->context, original.c_str())) { path = made; free(made); }
    }
    ~DecodedCopy() { if (!path.empty()) unlink(path.c_str()); }
    DecodedCopy(const DecodedCopy &) = delete;
    DecodedCopy &operator=(const DecodedCopy &) = delete;
};

/// C-STORE of files, each as it is stored or, where the peer does not take that and `callbacks` can, decoded. False from `each` ends it.
void storeFiles(const cdicom_peer &peer, const std::vector<std::string> &paths, const cdicom_provider_callbacks *callbacks, const std::function<bool(bool)> &each) {
    // An association has 127 contexts; files come in runs of few classes and syntaxes.
    for (size_t start = 0; start < paths.size();) {
        auto scu = user(peer);
        std::vector<std::pair<OFString, OFString>> contexts;
        std::vector<Label> labels;
        size_t end = start;
        for (; end < paths.size() && contexts.size() < 100; ++end) {
            Label label;
            labels.push_back(readLabel(paths[end], label) ? label : Label());
            if (labels.back().syntax.empty()) continue;
            for (const OFString &syntax : {label.syntax, OFString(UID_LittleEndianExplicitTransferSyntax)}) {
                const std::pair<OFString, OFString> context{label.sopClass, syntax};
                if (std::find(contexts.begin(), contexts.end(), context) != contexts.end()) continue;
                contexts.push_back(context);
                OFList<OFString> list;
                list.push_back(syntax);
                if (isPlain(syntax) && syntax != UID_LittleEndianImplicitTransferSyntax) list.push_back(UID_LittleEndianImplicitTransferSyntax);
                scu->addPresentationContext(label.sopClass, list);
            }
        }
        if (contexts.empty()) {
            for (; start < end; ++start) if (!each(false)) return;
            continue;
        }
        connect(*scu);
        for (size_t i = start; i < end; ++i) {
            const Label &label = labels[i - start];
            bool good = false;
            if (!label.syntax.empty()) {
                auto context = [&](const char *syntax) { return scu->findPresentationContextID(label.sopClass, syntax); };
                T_ASC_PresentationContextID id = context(label.syntax.c_str());
                const bool asStored = id != 0;
                for (const char *syntax : {UID_LittleEndianExplicitTransferSyntax, UID_LittleEndianImplicitTransferSyntax}) if (!id) id = context(syntax);
                Uint16 status = 0xFFFF;
                if (id && (asStored || isPlain(label.syntax))) {
                    good = scu->sendSTORERequest(id, paths[i].c_str(), nullptr, status).good();
                } else if (id) {
                    const DecodedCopy copy(callbacks, paths[i]);
                    good = !copy.path.empty() && scu->sendSTORERequest(id, copy.path.c_str(), nullptr, status).good();
                }
                good = good && (status == 0 || (status & 0xF000) == 0xB000);
            }
            if (!each(good)) { scu->releaseAssociation(); return; }
        }
        scu->releaseAssociation();
        start = end;
    }
}

}  // namespace

struct cdicom_provider {
    std::string spool;
    cdicom_provider_callbacks callbacks;
    std::vector<std::string> titles, peers;   // peers: "TITLE host port"
    std::string ownTitle;
    int timeout = 30;
    std::unique_ptr<DcmBaseSCPPool> pool;
    std::thread thread;
    std::atomic<unsigned> serial{0};
};

namespace {

/// Workers are made on the listening thread, without arguments.
thread_local cdicom_provider *pending = nullptr;

class Worker : public DcmThreadSCP {
    cdicom_provider *const owner = pending;
    T_ASC_Association *association = nullptr;   // of the run; the base class keeps its own to itself

    bool knows(const OFString &title) const {
        if (owner->peers.empty()) return true;
        for (const auto &peer : owner->peers) if (peer.compare(0, peer.find(' '), title.c_str()) == 0) return true;
        return false;
    }

public:
    OFCondition run(T_ASC_Association *incoming) override {
        association = incoming;
        return DcmThreadSCP::run(incoming);
    }
    OFBool checkCalledAETitleAccepted(const OFString &title) override {
        if (owner->titles.empty()) return OFTrue;
        for (const auto &own : owner->titles) if (title == own.c_str()) return OFTrue;
        return OFFalse;
    }
    OFBool checkCallingAETitleAccepted(const OFString &title) override { return knows(title); }
    /// Peers given by number have to call from there; names are not looked up.
    OFBool checkCallingHostAccepted(const OFString &) override {
        // The library passes an empty text in pools of threads.
        const OFString caller = association->params->DULparams.callingPresentationAddress;
        bool isNumbered = !owner->peers.empty();
        for (const auto &peer : owner->peers) {
            const size_t start = peer.find(' ') + 1;
            const std::string host = peer.substr(start, peer.find(' ', start) - start);
            if (caller == host.c_str()) return OFTrue;
            isNumbered = isNumbered && isdigit(uint8_t(host[0]));
        }
        return isNumbered ? OFFalse : OFTrue;
    }
    void notifyDIMSEError(const OFCondition &) override {}

    OFCondition handleIncomingCommand(T_DIMSE_Message *message, const DcmPresentationContextInfo &context) override {
        switch (message->CommandField) {
        case DIMSE_C_STORE_RQ: return store(message->msg.CStoreRQ, context.presentationContextID);
        case DIMSE_C_FIND_RQ: return find(message->msg.CFindRQ, context.presentationContextID);
        case DIMSE_C_MOVE_RQ: return move(message->msg.CMoveRQ, context.presentationContextID);
        case DIMSE_C_GET_RQ: return get(message->msg.CGetRQ, context.presentationContextID);
        default: return DcmThreadSCP::handleIncomingCommand(message, context);
        }
    }

protected:
    /// Storage classes are more than the library's list of contexts may hold (127), so they are taken here: from those who send in the
    /// first of our syntaxes that they offer; from those who want to receive (C-GET, the role of provider) in the first of theirs that we know.
    OFCondition negotiateAssociation() override {
        const OFCondition result = DcmThreadSCP::negotiateAssociation();
        if (result.bad()) return result;
        const int count = ASC_countPresentationContexts(association->params);
        for (int i = 0; i < count; ++i) {
            T_ASC_PresentationContext context;
            if (ASC_getPresentationContext(association->params, i, &context).bad() || !isStorage(context.abstractSyntax)) continue;
            std::vector<const char *> offered;
            for (int k = 0; k < context.transferSyntaxCount; ++k) offered.push_back(context.proposedTransferSyntaxes[k]);
            const auto *known = std::begin(storageSyntaxes), *knownEnd = std::end(storageSyntaxes);
            const auto same = [](const char *a, const char *b) { return strcmp(a, b) == 0; };
            const bool receives = context.proposedRole == ASC_SC_ROLE_SCP || context.proposedRole == ASC_SC_ROLE_SCUSCP;
            const char *chosen = nullptr;
            if (receives) {
                const auto found = std::find_first_of(offered.begin(), offered.end(), known, knownEnd, same);
                if (found != offered.end()) chosen = *found;
            } else {
                const auto found = std::find_first_of(known, knownEnd, offered.begin(), offered.end(), same);
                if (found != knownEnd) chosen = *found;
            }
            if (!chosen) continue;
            const OFCondition taken = ASC_acceptPresentationContext(association->params, context.presentationContextID, chosen, context.proposedRole);
            if (taken.bad()) return taken;
        }
        return result;
    }

private:
    OFCondition store(T_DIMSE_C_StoreRQ &request, T_ASC_PresentationContextID id) {
        const std::string path = owner->spool + "/" + std::to_string(getpid()) + "-scp" + std::to_string(owner->serial++);
        Uint16 status = STATUS_STORE_Refused_OutOfResources;
        const OFCondition received = receiveSTORERequest(request, id, path.c_str());
        if (received.good()) status = owner->callbacks.stored(owner->callbacks.context, path.c_str());
        unlink(path.c_str());
        if (received.bad() && !isConnected()) return received;
        return sendSTOREResponse(id, request, status);
    }

    OFCondition find(T_DIMSE_C_FindRQ &request, T_ASC_PresentationContextID id) {
        DcmDataset *identifier = nullptr;
        OFCondition result = receiveFINDRequest(request, id, identifier);
        if (result.bad()) { delete identifier; return result; }
        const std::string query = identifier ? jsonOf(*identifier) : "{}";
        delete identifier;
        char *answer = owner->callbacks.find(owner->callbacks.context, query.c_str());
        const Uint16 failed = STATUS_FIND_Failed_UnableToProcess;
        if (!answer) return sendFINDResponse(id, request.MessageID, request.AffectedSOPClassUID, nullptr, failed, nullptr);
        // Identifiers are separated by form feeds.
        std::string all(answer);
        free(answer);
        for (size_t start = 0; start < all.size();) {
            size_t end = all.find('\f', start);
            if (end == std::string::npos) end = all.size();
            DcmDataset match;
            match.putAndInsertString(DCM_SpecificCharacterSet, "ISO_IR 192");
            fill(match, all.substr(start, end - start).c_str());
            if (checkForCANCEL(id, request.MessageID).good()) return sendFINDResponse(id, request.MessageID, request.AffectedSOPClassUID, nullptr, STATUS_FIND_Cancel_MatchingTerminatedDueToCancelRequest, nullptr);
            result = sendFINDResponse(id, request.MessageID, request.AffectedSOPClassUID, &match, STATUS_FIND_Pending_MatchesAreContinuing, nullptr);
            if (result.bad()) return result;
            start = end + 1;
        }
        return sendFINDResponse(id, request.MessageID, request.AffectedSOPClassUID, nullptr, STATUS_FIND_Success_MatchingIsComplete, nullptr);
    }

    bool locate(const std::string &query, std::vector<std::string> &paths) {
        char *answer = owner->callbacks.locate(owner->callbacks.context, query.c_str());
        if (!answer) return false;
        std::istringstream lines(answer);
        for (std::string line; std::getline(lines, line);) if (!line.empty()) paths.push_back(line);
        free(answer);
        return true;
    }

    /// C-GET (PS3.4 C.4.3): the objects come as C-STORE requests on the same association.
    OFCondition get(T_DIMSE_C_GetRQ &request, T_ASC_PresentationContextID id) {
        T_ASC_PresentationContextID at = id;
        DcmDataset *identifier = nullptr;
        const OFCondition received = receiveDIMSEDataset(&at, &identifier);
        const std::unique_ptr<DcmDataset> holder(identifier);
        if (received.bad()) return received;
        size_t left = 0, done = 0, failed = 0;
        auto respond = [&](Uint16 status) {
            T_DIMSE_C_GetRSP response;
            memset(&response, 0, sizeof response);
            response.DimseStatus = status;
            response.NumberOfRemainingSubOperations = count16(left);
            response.NumberOfCompletedSubOperations = count16(done);
            response.NumberOfFailedSubOperations = count16(failed);
            response.opts = O_GET_NUMBEROFREMAININGSUBOPERATIONS | O_GET_NUMBEROFCOMPLETEDSUBOPERATIONS | O_GET_NUMBEROFFAILEDSUBOPERATIONS | O_GET_NUMBEROFWARNINGSUBOPERATIONS;
            // Only pending and cancelled ones say what remains.
            if (status != STATUS_GET_Pending_SubOperationsAreContinuing && status != STATUS_GET_Cancel_SubOperationsTerminatedDueToCancelIndication)
                response.opts &= ~unsigned(O_GET_NUMBEROFREMAININGSUBOPERATIONS);
            return DIMSE_sendGetResponse(association, id, &request, &response, nullptr, nullptr);
        };
        std::vector<std::string> paths;
        if (!locate(identifier ? jsonOf(*identifier) : "{}", paths)) return respond(STATUS_GET_Failed_UnableToProcess);
        left = paths.size();
        for (const std::string &path : paths) {
            bool cancelled = false;
            OFCondition line = EC_Normal;
            ++(give(path, cancelled, line) ? done : failed);
            --left;
            if (line.bad()) return line;   // the association is gone
            if (cancelled || (left && checkForCANCEL(id, request.MessageID).good())) return respond(STATUS_GET_Cancel_SubOperationsTerminatedDueToCancelIndication);
            if (!left) break;
            const OFCondition said = respond(STATUS_GET_Pending_SubOperationsAreContinuing);
            if (said.bad()) return said;
        }
        return respond(failed ? STATUS_GET_Warning_SubOperationsCompleteOneOrMoreFailures : STATUS_GET_Success_SubOperationsCompleteNoFailures);
    }

    /// One object of a C-GET: as stored where that was negotiated, else decoded. `line` is bad when the association has failed.
    bool give(const std::string &path, bool &cancelled, OFCondition &line) {
        Label label;
        if (!readLabel(path, label)) return false;
        auto context = [&](const char *syntax) -> T_ASC_PresentationContextID {
            // The library falls back on other syntaxes by itself.
            const T_ASC_PresentationContextID found = ASC_findAcceptedPresentationContextID(association, label.sopClass.c_str(), syntax);
            T_ASC_PresentationContext accepted;
            const bool isExact = found && ASC_findAcceptedPresentationContext(association->params, found, &accepted).good() && strcmp(accepted.acceptedTransferSyntax, syntax) == 0;
            return isExact ? found : T_ASC_PresentationContextID(0);
        };
        T_ASC_PresentationContextID id = context(label.syntax.c_str());
        const bool asStored = id != 0;
        for (const char *syntax : {UID_LittleEndianExplicitTransferSyntax, UID_LittleEndianImplicitTransferSyntax}) if (!id) id = context(syntax);
        if (!id) return false;
        std::unique_ptr<DecodedCopy> copy;
        if (!asStored && !isPlain(label.syntax)) {
            copy = std::make_unique<DecodedCopy>(&owner->callbacks, path);
            if (copy->path.empty()) return false;
        }
        T_DIMSE_C_StoreRQ request;
        T_DIMSE_C_StoreRSP response;
        memset(&request, 0, sizeof request);
        memset(&response, 0, sizeof response);
        request.MessageID = association->nextMsgID++;
        OFStandard::strlcpy(request.AffectedSOPClassUID, label.sopClass.c_str(), sizeof request.AffectedSOPClassUID);
        OFStandard::strlcpy(request.AffectedSOPInstanceUID, label.sopInstance.c_str(), sizeof request.AffectedSOPInstanceUID);
        request.DataSetType = DIMSE_DATASET_PRESENT;
        request.Priority = DIMSE_PRIORITY_MEDIUM;
        DcmDataset *detail = nullptr;
        T_DIMSE_DetectedCancelParameters cancel;
        memset(&cancel, 0, sizeof cancel);
        line = DIMSE_storeUser(association, id, &request, copy ? copy->path.c_str() : path.c_str(), nullptr, nullptr, nullptr, DIMSE_NONBLOCKING, owner->timeout, &response, &detail, &cancel);
        delete detail;
        cancelled = cancel.cancelEncountered;
        return line.good() && (response.DimseStatus == STATUS_Success || (response.DimseStatus & 0xF000) == 0xB000);
    }

    OFCondition move(T_DIMSE_C_MoveRQ &request, T_ASC_PresentationContextID id) {
        DcmDataset *identifier = nullptr;
        OFString destination;
        OFCondition result = receiveMOVERequest(request, id, identifier, destination);
        if (result.bad()) { delete identifier; return result; }
        const std::string query = identifier ? jsonOf(*identifier) : "{}";
        delete identifier;
        auto respond = [&](Uint16 status, size_t left, size_t done, size_t failed) {
            return sendMOVEResponse(id, request.MessageID, request.AffectedSOPClassUID, nullptr, status, nullptr, count16(left), count16(done), count16(failed), 0);
        };
        char host[256];
        unsigned port = 0;
        bool known = false;
        for (const auto &peer : owner->peers) {
            char title[65];
            known = known || (sscanf(peer.c_str(), "%64s %255s %u", title, host, &port) == 3 && destination == title);
            if (known) break;
        }
        if (!known) return respond(STATUS_MOVE_Failed_MoveDestinationUnknown, 0, 0, 0);
        std::vector<std::string> paths;
        if (!locate(query, paths)) return respond(STATUS_MOVE_Failed_UnableToProcess, 0, 0, 0);
        size_t done = 0, failed = 0;
        bool cancelled = false;
        const cdicom_peer peer{host, uint16_t(port), destination.c_str(), owner->ownTitle.c_str(), owner->timeout};
        try {
            storeFiles(peer, paths, &owner->callbacks, [&](bool good) {
                ++(good ? done : failed);
                if (done + failed == paths.size()) return true;
                cancelled = checkForCANCEL(id, request.MessageID).good();
                return !cancelled && respond(STATUS_MOVE_Pending_SubOperationsAreContinuing, paths.size() - done - failed, done, failed).good();
            });
        } catch (const Failure &) {
            failed = paths.size() - done;
        }
        if (cancelled) return respond(STATUS_MOVE_Cancel_SubOperationsTerminatedDueToCancelIndication, paths.size() - done - failed, done, failed);
        return respond(failed ? STATUS_MOVE_Warning_SubOperationsCompleteOneOrMoreFailures : STATUS_MOVE_Success_SubOperationsCompleteNoFailures, 0, done, failed);
    }
};

}  // namespace

/// A port that is taken is told at once; the library would say so on the listening thread only.
static void tellTakenPort(uint16_t port) {
    const int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe < 0) throw Failure("network", "No socket can be opened: %.100s.", strerror(errno));
    const int on = 1;
    setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    const bool isFree = bind(probe, reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0 && listen(probe, 1) == 0;
    const int reason = errno;
    close(probe);
    if (!isFree) throw Failure("network", "Port %u cannot be listened on: %.100s.", unsigned(port), strerror(reason));
}

cdicom_provider *cdicom_provider_start(const cdicom_provider_settings *settings, cdicom_error *error) {
    return guarded(error, (cdicom_provider *)nullptr, [&]() -> cdicom_provider * {
        auto provider = std::make_unique<cdicom_provider>();
        provider->spool = settings->spool;
        provider->callbacks = settings->callbacks;
        provider->ownTitle = settings->title;
        provider->timeout = settings->timeout;
        if (settings->checks_title) provider->titles.push_back(settings->title);
        for (size_t i = 0; i < settings->peer_count; ++i) provider->peers.push_back(settings->peers[i]);
        auto *pool = new DcmSCPPool<Worker>;
        provider->pool.reset(pool);
        pool->setMaxThreads(Uint16(settings->associations));
        DcmSCPConfig &config = pool->getConfig();
        config.setAETitle(settings->title);
        config.setPort(settings->port);
        config.setMaxReceivePDULength(131072);
        // The listener looks once a second whether it shall stop.
        config.setConnectionBlockingMode(DUL_NOBLOCK);
        config.setConnectionTimeout(1);
        config.setDIMSEBlockingMode(DIMSE_NONBLOCKING);
        config.setDIMSETimeout(settings->timeout);
        config.setACSETimeout(settings->timeout);
        config.setRespondWithCalledAETitle(OFTrue);
        config.setHostLookupEnabled(OFFalse);
        dcmDisableGethostbyaddr.set(OFTrue);   // the pool does not look at the setting
        check(config.addPresentationContext(UID_VerificationSOPClass, plainSyntaxes()));
        for (const char *model : {UID_FINDStudyRootQueryRetrieveInformationModel, UID_FINDPatientRootQueryRetrieveInformationModel,
                                  UID_MOVEStudyRootQueryRetrieveInformationModel, UID_MOVEPatientRootQueryRetrieveInformationModel,
                                  UID_GETStudyRootQueryRetrieveInformationModel, UID_GETPatientRootQueryRetrieveInformationModel})
            check(config.addPresentationContext(model, plainSyntaxes()));
        cdicom_provider *raw = provider.get();
        tellTakenPort(settings->port);
        provider->thread = std::thread([raw] {
            pending = raw;
            raw->pool->listen();
        });
        return provider.release();
    });
}

void cdicom_provider_stop(cdicom_provider *provider) {
    provider->pool->stopAfterCurrentAssociations();
    if (provider->thread.joinable()) provider->thread.join();
    delete provider;
}

bool cdicom_echo(const cdicom_peer *peer, cdicom_error *error) {
    return guarded(error, false, [&] {
        auto scu = user(*peer);
        scu->addPresentationContext(UID_VerificationSOPClass, plainSyntaxes());
        connect(*scu);
        check(scu->sendECHORequest(0));
        scu->releaseAssociation();
        return true;
    });
}

/// The last status of a query: success, pending and warnings are none.
static void tellRefusal(Uint16 status) {
    if (status != 0 && (status & 0xF000) != 0xB000 && (status & 0xFF00) != 0xFF00) throw Failure("refused", "The peer refused with status %04X.", status);
}

char *cdicom_network_find(const cdicom_peer *peer, const char *keys, cdicom_error *error) {
    return guarded(error, (char *)nullptr, [&]() -> char * {
        auto scu = user(*peer);
        const char *model = UID_FINDStudyRootQueryRetrieveInformationModel;
        scu->addPresentationContext(model, plainSyntaxes());
        DcmDataset query;
        query.putAndInsertString(DCM_SpecificCharacterSet, "ISO_IR 192");
        fill(query, keys);
        connect(*scu);
        OFList<QRResponse *> responses;
        const OFCondition result = scu->sendFINDRequest(scu->findPresentationContextID(model, ""), &query, &responses);
        std::string all = "[";
        Uint16 status = 0;
        for (QRResponse *response : responses) {
            if (response->m_dataset) all += (all.size() > 1 ? "," : "") + jsonOf(*response->m_dataset);
            status = response->m_status;
            delete response;
        }
        scu->releaseAssociation();
        check(result);
        tellRefusal(status);
        return strdup((all + "]").c_str());
    });
}

static bool finish(OFList<RetrieveResponse *> &responses, const OFCondition &result, uint32_t *completed, uint32_t *failed) {
    *completed = *failed = 0;
    Uint16 status = 0;
    for (RetrieveResponse *response : responses) {
        *completed = response->m_numberOfCompletedSubops;
        *failed = response->m_numberOfFailedSubops;
        status = response->m_status;
        delete response;
    }
    check(result);
    tellRefusal(status);
    return true;
}

bool cdicom_network_move(const cdicom_peer *peer, const char *destination, const char *keys, uint32_t *completed, uint32_t *failed, cdicom_error *error) {
    return guarded(error, false, [&] {
        auto scu = user(*peer);
        const char *model = UID_MOVEStudyRootQueryRetrieveInformationModel;
        scu->addPresentationContext(model, plainSyntaxes());
        DcmDataset query;
        fill(query, keys);
        connect(*scu);
        OFList<RetrieveResponse *> responses;
        const OFCondition result = scu->sendMOVERequest(scu->findPresentationContextID(model, ""), destination, &query, &responses);
        scu->releaseAssociation();
        return finish(responses, result, completed, failed);
    });
}

bool cdicom_network_get(const cdicom_peer *peer, const char *keys, const char *const *classes, size_t class_count, const char *folder,
                        uint32_t *completed, uint32_t *failed, cdicom_error *error) {
    return guarded(error, false, [&] {
        auto scu = user(*peer);
        const char *model = UID_GETStudyRootQueryRetrieveInformationModel;
        scu->addPresentationContext(model, plainSyntaxes());
        OFList<OFString> syntaxes;
        for (const char *syntax : storageSyntaxes) syntaxes.push_back(syntax);
        if (class_count)
            for (size_t i = 0; i < class_count && i < 120; ++i) scu->addPresentationContext(classes[i], syntaxes, ASC_SC_ROLE_SCP);
        else
            for (int i = 0; i < numberOfDcmLongSCUStorageSOPClassUIDs && i < 120; ++i) scu->addPresentationContext(dcmLongSCUStorageSOPClassUIDs[i], syntaxes, ASC_SC_ROLE_SCP);
        scu->setStorageMode(DCMSCU_STORAGE_BIT_PRESERVING);
        scu->setStorageDir(folder);
        DcmDataset query;
        fill(query, keys);
        connect(*scu);
        OFList<RetrieveResponse *> responses;
        const OFCondition result = scu->sendCGETRequest(scu->findPresentationContextID(model, ""), &query, &responses);
        scu->releaseAssociation();
        return finish(responses, result, completed, failed);
    });
}

bool cdicom_network_store(const cdicom_peer *peer, const char *const *paths, size_t count, uint32_t *stored, cdicom_error *error) {
    return guarded(error, false, [&] {
        *stored = 0;
        std::vector<std::string> list(paths, paths + count);
        storeFiles(*peer, list, nullptr, [&](bool good) { *stored += good; return true; });
        return true;
    });
}
