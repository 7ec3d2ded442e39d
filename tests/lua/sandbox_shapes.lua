--- What the reference of SCM documents of answers: a compact list of our own.
--
-- Names are resource.what; the notation is that of sandbox_shape. Fields with "!" are those
-- that real answers always carry.

local shape = require "sandbox_shape"

local shapes = {}

local PROFILE = [[{id!:n, name!:s, useSecondaryOrgName!:b, description!:s, terms!:[n],
  keyTypes!:o}]]
local DEPARTMENT = "{id!:n, name!:s, parentName:s}"
local RECOVERY = [[{allowKeyRecoveryByMasterAdmins:b, allowKeyRecoveryByOrgAdmins:b,
  allowKeyRecoveryByDepartmentAdmins:b}]]
local DELEGATION = [[{orgId!:n, certTypes!:[s(SSL|SMIME|CodeSign)],
  domainCertificateRequestPrivileges!:[s(DOMAIN|SUBDOMAIN|WILDCARD_1ST_LEVEL|
  WILDCARD_2ND_LEVEL)], status!:s(ACTIVE|REQUESTED)}]]
local DCV_STATUS = "s(NOT_VALIDATED|VALIDATED|EXPIRED)"
local ORDER_STATUS = "s(NOT_INITIATED|AWAITING_SUBMIT|SUBMITTED|REJECTED)"
local MODE = "s(EMAIL|CNAME|HTTP|HTTPS|AUTO|TXT|PERSISTENT_TXT)"
local METHOD = "s(HTTP_CSR_HASH|CNAME_CSR_HASH|EMAIL|HTTPS_CSR_HASH|DNSTXT_RANDOM_VALUE|"
  .. "DNSTXT_PERSISTENT_VALUE)"
local VIA = "s(Enrollment Form|Client Admin|Web API|Discovery|Imported|SCEP|CD Agent|"
  .. "MS Agent|MS CA|Bulk Request|ACME|EST|REST API)"
local SUBMITTED = "status!:" .. DCV_STATUS .. ", orderStatus!:" .. ORDER_STATUS
  .. ", message!:s, orderBackendId!:s"

local TEXTS = {
  error = "{code!:n, description!:s}",

  ["organization.list"] = "[{id!:n, name!:s, departments!:[" .. DEPARTMENT .. "]}]",
  ["organization.managed_by"] = "[" .. DEPARTMENT .. "]",
  ["organization.details"] = [[{name!:s, id!:n, schacHomeOrganization:s, alias:s,
    secondaryName:s, contactEmails:s, contactWebhook:s, contactSlack:s, contactTeams:s,
    address1!:s, address2:s, address3:s, city:s, stateOrProvince:s, postalCode:s,
    country!:s(2..2), validationStatus:s, secondaryValidationStatus:s,
    sslCertsApiEnabled!:b, clientCertsApiEnabled!:b, clientCertificate!:]] .. RECOVERY
    .. ", certTypes!:[s], departments!:[" .. DEPARTMENT .. "]}",
  ["organization.validations"] = [[[{id!:n, validationLevel!:s(OV_SSL|OV_SMIME|EV_SSL),
    status!:s(NOT_VALIDATED|PENDING|EXPIRED|FAILED|VALIDATED), backgroundStatus!:s,
    submitted!:s(ISO_HMS), expires:s(ISO_HMS), alternative!:b, backendId!:n,
    backendType!:s}] ]],
  ["organization.validation"] = [[{id!:n, validationLevel!:s(OV_SSL|OV_SMIME|EV_SSL),
    status!:s(NOT_VALIDATED|PENDING|EXPIRED|FAILED|VALIDATED), backgroundStatus!:s,
    submitted!:s(ISO_HMS), expires:s(ISO_HMS), alternative!:b, backendId!:n,
    backendType!:s, validator:{id!:n, name!:s}, settings!:o, organizationDetails!:{
    generalDetails!:{legalName!:s, assumedName:s, address1:s, address2:s, address3:s,
    city:s,
    stateProvince:s, postalCode:s, country!:s}, organizationIdentifier:s, evDetails:o}}]],
  ["ca_backend.list"] = "[{id!:n, name!:s, type!:s, public!:b, connectorBackendType:s}]",

  ["ssl.types"] = "[" .. PROFILE .. "]",
  ["ssl.custom_fields"] = "[{id!:n, name!:s, mandatory!:b}]",
  ["ssl.enrolled"] = "{sslId!:n, renewId!:s}",
  ["ssl.renewed"] = "{sslId!:n}",
  ["ssl.list"] = [[[{sslId!:n, commonName!:s, subjectAlternativeNames:[s],
    serialNumber:s}] ]],
  ["ssl.details"] = [[{commonName!:s, sslId!:n, id!:n, orgId!:n, status!:s(Init|Requested|
    SA Approved|Approved|Applied|Issued|Declined|Rejected|Invalid|Revoked|Expired|
    Replaced),
    orderNumber:n, backendCertId:s, vendor!:s, certType!:]] .. PROFILE .. [[, subType!:s,
    validationType!:s, term!:n, owner!:s, ownerId!:n, requester!:s, requesterId!:n,
    requestedVia!:]] .. VIA .. [[, externalRequester:s, comments!:s, requested!:s(US),
    approved:s(US), issued:s(US), declined:s(US), expires:s(US), replaced:s(US),
    revoked:s(US), reasonCode:n, renewed!:b, renewedDate:s(US), serialNumber:s,
    signatureAlg:s, keyAlgorithm:s, keySize:n, keyType:s, keyUsages:[s],
    extendedKeyUsages:[s], subjectAlternativeNames!:[s],
    customFields!:[{name!:s, value!:s}],
    certificateDetails:{issuer!:s, subject!:s, subjectAltNames!:s, md5Hash!:s(32..32),
    sha1Hash!:s(40..40)}, autoInstallDetails!:{state!:s, nodes:[{name:s, port:n}]},
    autoRenewDetails!:{state!:s(Not scheduled|Scheduled|Started|Successful|Failed),
    daysBeforeExpiration:n}, suspendNotifications!:b}]],
  ["ssl.dcv"] = [[{dcvLog!:{error!:{code!:n, description:s?}, log!:[{dcvStatus!:s,
    domainName!:s, dcvDate:s(HMS)?, lastCheck:s(HMS), nextCheck:s(HMS),
    dcvEmailRefNumber:n}]}, instructions!:[{domainName!:s, dcvMode!:s, host:s, point:s,
    url:s, file:s, dcvEmail:s}]}]],
  ["ssl.locations"] = "[{id!:n, locationType!:s, name!:s, details!:o}]",
  ["ssl.location"] = "{id!:n, locationType!:s, name!:s, details!:o}",
  ["ssl.imported"] = [[[{cert:{id!:n, subject!:s, serialNumber!:s}, created:b,
    errorMessage:s}] ]],

  ["domain.list"] = "[{id!:n, name!:s}]",
  ["domain.count"] = "{count!:n}",
  ["domain.details"] = [[{id!:n, name!:s, delegationStatus!:s(ACTIVE|REQUESTED),
    state!:s(SUSPENDED|ACTIVE), validationStatus!:]] .. DCV_STATUS .. [[,
    validationMethod:]] .. METHOD .. [[, dcvValidation:s(ISO), dcvExpiration:s(ISO),
    ctLogMonitoring!:{enabled!:b, includeSubdomains!:b, bucketId:s}, delegations!:[]]
    .. DELEGATION .. "]}",

  ["dcv.list"] = "[{domain!:s, dcvStatus!:" .. DCV_STATUS .. ", dcvOrderStatus!:"
    .. ORDER_STATUS .. ", dcvOrderMethod:" .. MODE .. ", dcvMethod:" .. METHOD
    .. ", expirationDate:s(ISO)}]",
  ["dcv.status_v1"] = "{status!:" .. DCV_STATUS .. ", orderStatus!:" .. ORDER_STATUS
    .. ", validationDate:s(ISO), expirationDate:s(ISO)}",
  ["dcv.status"] = "{status!:" .. DCV_STATUS .. ", orderStatus!:" .. ORDER_STATUS
    .. ", validationDate:s(ISO), expirationDate:s(ISO), orderMode:" .. MODE .. [[, url:s,
    firstLine:s(64..64), secondLine:s, host:s, point:s, validationEmail:s,
    emailValidationReferenceNumber:s, orderBackendId:s, submittedDate:s(ISO),
    lastCheck:s(ISO_HMS), nextCheck:s(ISO_HMS)}]],
  ["dcv.http"] = "{url!:s, firstLine!:s(64..64), secondLine!:s}",
  ["dcv.cname"] = "{host!:s, point!:s}",
  ["dcv.message"] = "{message!:s}",
  ["dcv.email"] = [[{emails!:[s(e-mail)], dcvEmails!:[{domainName!:s, whoisEmails!:[s],
    adminEmails!:[s], dnsTxtEmails!:[s]}]}]],
  ["dcv.submitted"] = "{" .. SUBMITTED .. "}",
  ["dcv.submitted_txt"] = "{" .. SUBMITTED .. ", host!:s, point!:s}",
  ["dcv.submitted_email"] = "{" .. SUBMITTED .. ", emailValidationReferenceNumber!:s}",
  ["dcv.submitted_bulk"] = "{message!:s, orderStatus!:s, orderBackendId!:s}",
  ["dcv.cleared"] = "{status!:" .. DCV_STATUS .. ", orderStatus!:" .. ORDER_STATUS
    .. ", message!:s}",

  ["custom_field.list"] = [[[{id!:n, name!:s, mandatories!:[s(ADMIN_UI|REST_API|SOAP_API|
    WEB_FORM)], certType!:s, state!:s(ACTIVE|INACTIVE|SUSPENDED_ACTIVE|
    SUSPENDED_INACTIVE),
    input!:{type!:s, options:[s]}}] ]],
  ["custom_field.list_v1"] = [[[{id!:n, name!:s, mandatory!:b, certType!:s, state!:s,
    input!:{type!:s, options:[s]}}] ]],
  ["custom_field.details"] = [[{id!:n, name!:s, mandatories!:[s], certType!:s, state!:s,
    input!:{type!:s, options:[s]}}]],
}

for name, text in pairs(TEXTS) do shapes[name] = shape.parse(text) end

return shapes
